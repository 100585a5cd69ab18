// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// FSDP2, as trainers use it: every parameter is a DTensor that is cut along one dim and, with hybrid sharding,
// repeated; beside tensor parallelism the shards of a tensor-parallel rank are cut again.
#include <numeric>

#include "src/model/placer.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

struct FsdpSettings {
  std::int32_t shard = 1;
  std::int32_t replicate = 1;
  std::int32_t tp = 1;
  bool has_tp = false;                 ///< the mesh has an axis for it
  bool takes_first_divisible = false;  ///< the first dim that shard divides, else dim 0; false: dim 0
  bool is_shard_outer = false;         ///< tp cuts the shards, not FSDP the tensor-parallel ones
};

Result<FsdpSettings> read_settings(const LayoutText& text) {
  FsdpSettings settings;
  RESHARD_TRY(settings.shard, text.integer("shard", 1));
  RESHARD_TRY(settings.replicate, text.integer("replicate", 1));
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  settings.has_tp = text.find("tp") != nullptr;
  RESHARD_TRY(const std::string dim, text.word("dim", {"0", "divisible"}));
  settings.takes_first_divisible = dim == "divisible";
  RESHARD_TRY(const std::string outer, text.word("outer", {"tp", "shard"}));
  settings.is_shard_outer = outer == "shard";
  if (!settings.has_tp && text.find("outer") != nullptr) return text.error("outer needs tp");
  return settings;
}

}  // namespace

Result<std::int32_t> fsdp_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const FsdpSettings settings, read_settings(text));
  return text.num_ranks({settings.shard, settings.replicate, settings.tp});
}

Status place_fsdp(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const FsdpSettings settings, read_settings(text));
  // The mesh that init_device_mesh gives: rank = (replicate index * shard + shard index) * tp + tp index.
  std::vector<MeshAxis> axes = {{"replicate", settings.replicate}, {"shard", settings.shard}};
  if (settings.has_tp) axes.push_back({"tp", settings.tp});
  RESHARD_TRY(const std::int32_t num_ranks, fsdp_num_ranks(text));
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh, builder->mesh(std::move(axes), std::move(ranks)));
  Scheme scheme;
  scheme.shard = Shard{settings.shard, 1, settings.takes_first_divisible, settings.is_shard_outer};
  for (PartRules& part : scheme.parts) {
    part.meshes = {mesh};
    for (const Axis axis : {Axis::kVocab, Axis::kHead, Axis::kKvHead, Axis::kFfn}) {
      if (settings.has_tp) part.cut(axis, {"tp", settings.tp, {2}});
    }
  }
  return place_model(text, scheme, builder);
}

}  // namespace reshard
