// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// FSDP2, as trainers use it: every parameter is a DTensor that is cut along dim 0 and, with hybrid sharding, repeated.
#include <numeric>

#include "src/model/placer.h"
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
  Scheme scheme;
  scheme.shard = Cut{"shard", settings.shard, {1}};
  for (PartRules& part : scheme.parts) part.meshes = {mesh};
  scheme.stage_of = [](std::size_t) { return 0; };
  return place_model(text, scheme, builder);
}

}  // namespace reshard
