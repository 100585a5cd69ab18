// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// FSDP2, as trainers use it: every parameter is a DTensor that is cut along dim 0 and, with hybrid sharding, repeated.
#include <numeric>

#include "src/model/schemes.h"

namespace reshard {
namespace {

struct FsdpSettings {
  std::int32_t shard = 1;
  std::int32_t replicate = 1;
};

Result<FsdpSettings> read_settings(const LayoutText& text) {
  FsdpSettings settings;
  RESHARD_TRY(settings.shard, text.integer("shard", 1));
  RESHARD_TRY(settings.replicate, text.integer("replicate", 1));
  return settings;
}

constexpr int kShardAxis = 1;

/// FSDP2 cuts dim 0 of every parameter of the Hugging Face model. That model has one parameter per routed expert, so
/// each expert is cut along its own rows: dim 1 of the stacked tensor, never the expert dimension. Buffers of a module
/// are not FSDP's and stay whole.
std::vector<DimPlacement> dims_of(const Param& param, std::int32_t shard, DimMaps* maps) {
  std::vector<DimPlacement> dims = whole_dims(param);
  if (param.role == Role::kBuffer) return dims;
  const std::size_t dim = is_routed_expert(param) ? 1 : 0;
  dims[dim] = {maps->chunk(param.shape[dim], shard), {kShardAxis}};
  return dims;
}

}  // namespace

Result<std::int32_t> fsdp_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const FsdpSettings settings, read_settings(text));
  return text.num_ranks({settings.shard, settings.replicate});
}

Status place_fsdp(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const FsdpSettings settings, read_settings(text));
  // The mesh that init_device_mesh gives for hybrid sharding: rank = replicate index * shard + shard index.
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(settings.shard) *
                                  static_cast<std::size_t>(settings.replicate));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh,
              builder->mesh({{"replicate", settings.replicate}, {"shard", settings.shard}}, std::move(ranks)));
  for (std::size_t i = 0; i < builder->params().size(); ++i) {
    const Param& param = builder->params()[i];
    RESHARD_TRY(builder->place(i, mesh, dims_of(param, settings.shard, &builder->maps()),
                               checkpoint_name(builder->config(), param)));
  }
  return {};
}

}  // namespace reshard
