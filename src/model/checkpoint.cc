// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Whole tensors, as a process has them that has read a checkpoint: all on every rank, or each on one, by bytes.
#include <algorithm>
#include <numeric>

#include "src/base/arithmetic.h"
#include "src/model/placer.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

/// `ranks`: every rank holds the whole checkpoint. `split`: each tensor lies whole on one of the ranks.
struct CheckpointSettings {
  std::int32_t num_ranks = 1;
  bool is_split = false;
};

Result<CheckpointSettings> read_settings(const LayoutText& text) {
  CheckpointSettings settings;
  settings.is_split = text.find("split") != nullptr;
  if (settings.is_split && text.find("ranks") != nullptr) {
    return text.error("ranks (all of it on each) and split (each tensor on one) exclude each other");
  }
  RESHARD_TRY(settings.num_ranks, text.integer(settings.is_split ? "split" : "ranks", 1));
  return settings;
}

std::int64_t bytes_of(const Param& param) {
  const std::vector<std::int64_t> shape = shape_of(param);
  return std::accumulate(shape.begin(), shape.end(), size_bytes(param.dtype), std::multiplies<>());
}

/// Deals the chosen tensors out in order, as the files of a checkpoint do: each goes to the rank in whose share of the
/// bytes its middle falls.
std::vector<std::int32_t> deal(std::int32_t num_ranks, const LayoutBuilder& builder) {
  std::int64_t total = 0, before = 0;
  for (const std::size_t index : builder.chosen()) total += bytes_of(builder.param(index));
  const std::int64_t share = std::max<std::int64_t>(1, ceil_div(total, num_ranks));
  std::vector<std::int32_t> rank_of;
  for (const std::size_t index : builder.chosen()) {
    const std::int64_t bytes = bytes_of(builder.param(index));
    rank_of.push_back(static_cast<std::int32_t>((before + bytes / 2) / share));
    before += bytes;
  }
  return rank_of;
}

/// For the placer, the ranks that each have a share are stages of one rank: those that have something, in order.
Status place_split(const LayoutText& text, std::int32_t num_ranks, LayoutBuilder* builder) {
  std::vector<std::int32_t> stage_of;
  std::int32_t last_rank = -1;
  std::vector<MeshPtr> meshes;
  for (const std::int32_t rank : deal(num_ranks, *builder)) {
    if (rank != last_rank) {
      RESHARD_TRY(MeshPtr mesh, builder->mesh({{"rank", 1}}, {rank}));
      meshes.push_back(std::move(mesh));
      last_rank = rank;
    }
    stage_of.push_back(static_cast<std::int32_t>(meshes.size()) - 1);
  }
  Scheme scheme;
  scheme.num_stages = static_cast<std::int32_t>(meshes.size());
  for (PartRules& part : scheme.parts) part.meshes = meshes;
  scheme.stage_of = [&](std::size_t choice) { return stage_of[choice]; };
  return place_model(text, scheme, builder);
}

}  // namespace

Result<std::int32_t> checkpoint_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const CheckpointSettings settings, read_settings(text));
  return settings.num_ranks;
}

Status place_checkpoint(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const CheckpointSettings settings, read_settings(text));
  if (settings.is_split) return place_split(text, settings.num_ranks, builder);
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(settings.num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh, builder->mesh({{"replica", settings.num_ranks}}, std::move(ranks)));
  Scheme scheme;
  for (PartRules& part : scheme.parts) part.meshes = {mesh};
  return place_model(text, scheme, builder);
}

}  // namespace reshard
