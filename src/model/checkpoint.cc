// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Whole tensors, as a process has them that has read a checkpoint: all on every rank, or each on one, by bytes.
#include <algorithm>
#include <numeric>

#include "src/base/arithmetic.h"
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

Status place_whole(LayoutBuilder* builder, std::size_t param, const MeshPtr& mesh) {
  const Param& tensor = builder->params()[param];
  return builder->place(param, mesh, whole_dims(tensor), checkpoint_name(builder->config(), tensor));
}

std::int64_t bytes_of(const Param& param) {
  return std::accumulate(param.shape.begin(), param.shape.end(), size_bytes(param.dtype), std::multiplies<>());
}

/// Deals the tensors out in order, as the files of a checkpoint do: each goes to the rank in whose share of the bytes
/// its middle falls.
Status place_split(std::int32_t num_ranks, LayoutBuilder* builder) {
  std::vector<MeshPtr> meshes(static_cast<std::size_t>(num_ranks));
  std::int64_t total = 0;
  for (const Param& param : builder->params()) total += bytes_of(param);
  const std::int64_t share = std::max<std::int64_t>(1, ceil_div(total, num_ranks));
  std::int64_t before = 0;
  for (std::size_t i = 0; i < builder->params().size(); ++i) {
    const std::int64_t bytes = bytes_of(builder->params()[i]);
    const std::int64_t rank = (before + bytes / 2) / share;
    before += bytes;
    MeshPtr& mesh = meshes[static_cast<std::size_t>(rank)];
    if (mesh == nullptr) {
      RESHARD_TRY(mesh, builder->mesh({{"rank", 1}}, {static_cast<std::int32_t>(rank)}));
    }
    RESHARD_TRY(place_whole(builder, i, mesh));
  }
  return {};
}

}  // namespace

Result<std::int32_t> checkpoint_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const CheckpointSettings settings, read_settings(text));
  return settings.num_ranks;
}

Status place_checkpoint(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const CheckpointSettings settings, read_settings(text));
  if (settings.is_split) return place_split(settings.num_ranks, builder);
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(settings.num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh, builder->mesh({{"replica", settings.num_ranks}}, std::move(ranks)));
  for (std::size_t i = 0; i < builder->params().size(); ++i) RESHARD_TRY(place_whole(builder, i, mesh));
  return {};
}

}  // namespace reshard
