// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// FSDP1 is in fsdp_flat.cc. FSDP2, as trainers use it: every parameter is a DTensor that is cut along one dim and, with
// hybrid sharding, repeated; beside tensor parallelism the shards of a tensor-parallel rank are cut again. What a
// parameter is depends on the version of transformers where a layer has experts: 5 holds them all in two parameters, 4
// each in three.
#include <fmt/format.h>

#include <iterator>
#include <numeric>

#include "src/model/fsdp_flat.h"
#include "src/model/placer.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

/// The parameters in which transformers 5 holds the experts of a layer, [experts, ...] and without a module of their
/// own around them. Of tensor-parallel ranks each has its share of gate, then of up (its "packed_colwise").
constexpr NameRule kStackedNames[] = {
    {"experts.down", "down_proj", /*has_leaf=*/false},
    {"kda.f_down", "forget_gate.f_a_proj"},
    {"kda.f_up", "forget_gate.f_b_proj"},
    {"kda.dt_bias", "forget_gate.dt_bias"},
    {"kda.decay", "forget_gate.A_log"},
};
constexpr FusedRule kStackedFused[] = {
    // What the checkpoint itself has in one parameter stays as it is.
    {"gate_up_proj",
     {"stacked.gate_up", "stacked.interleaved", "experts.gate", "experts.up"},
     FusedRule::Units::kRanks,
     /*has_leaf=*/false},
    {"conv1d", {"kda.conv_q", "kda.conv_k", "kda.conv_v"}},
};
/// Its models have other module names than their checkpoints: of Mixtral, MiniMax and Kimi-Linear, of ERNIE.
constexpr ModuleRename kStackedModules[] = {{"block_sparse_moe", "mlp"}, {"mlp.moe_statics", "mlp.gate.moe_statics"}};

struct FsdpSettings {
  std::int32_t shard = 1;
  std::int32_t replicate = 1;
  std::int32_t tp = 1;
  bool has_tp = false;                 ///< the mesh has an axis for it
  bool takes_first_divisible = false;  ///< the first dim that shard divides, else dim 0; false: dim 0
  bool is_shard_outer = false;         ///< tp cuts the shards, not FSDP the tensor-parallel ones
  bool has_stacked_experts = true;     ///< as transformers 5, else as 4
  bool is_flat = false;                ///< FSDP1
  bool is_aligned = false;             ///< see FlatUnits
};

Result<FsdpSettings> read_fsdp_settings(const LayoutText& text) {
  FsdpSettings settings;
  RESHARD_TRY(settings.shard, text.integer("shard", 1));
  RESHARD_TRY(settings.replicate, text.integer("replicate", 1));
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  settings.has_tp = text.find("tp") != nullptr;
  RESHARD_TRY(const std::string dim, text.word("dim", {"0", "divisible"}));
  settings.takes_first_divisible = dim == "divisible";
  RESHARD_TRY(const std::string outer, text.word("outer", {"tp", "shard"}));
  settings.is_shard_outer = outer == "shard";
  RESHARD_TRY(const std::string experts, text.word("experts", {"stacked", "each"}));
  settings.has_stacked_experts = experts == "stacked";
  RESHARD_TRY(const std::string units, text.word("units", {"parameter", "flat", "aligned"}));
  settings.is_flat = units != "parameter";
  settings.is_aligned = units == "aligned";
  for (const std::string_view key : {"tp", "dim"}) {
    if (settings.is_flat && text.find(key) != nullptr) {
      return text.error(fmt::format("units={} cuts whole units flat, without {}", units, key));
    }
  }
  if (!settings.has_tp && text.find("outer") != nullptr) return text.error("outer needs tp");
  return settings;
}

}  // namespace

Result<std::int32_t> fsdp_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const FsdpSettings settings, read_fsdp_settings(text));
  return text.num_ranks({settings.shard, settings.replicate, settings.tp});
}

Status place_fsdp(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const FsdpSettings settings, read_fsdp_settings(text));
  if (settings.is_flat) {
    return place_flat_units(
        text, {settings.shard, settings.replicate, settings.is_aligned, settings.has_stacked_experts}, builder);
  }
  // The mesh that init_device_mesh gives: rank = (replicate index * shard + shard index) * tp + tp index.
  std::vector<MeshAxis> axes = {{"replicate", settings.replicate}, {"shard", settings.shard}};
  if (settings.has_tp) axes.push_back({"tp", settings.tp});
  RESHARD_TRY(const std::int32_t num_ranks, fsdp_num_ranks(text));
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh, builder->mesh(std::move(axes), std::move(ranks)));
  Scheme scheme;
  if (settings.has_stacked_experts) {
    scheme.keeps_modules = true;
    scheme.names.assign(std::begin(kStackedNames), std::end(kStackedNames));
    scheme.fused.assign(std::begin(kStackedFused), std::end(kStackedFused));
    scheme.modules.assign(std::begin(kStackedModules), std::end(kStackedModules));
  } else {
    scheme.expert_buffers = ExpertBuffers::kModuleEach;
  }
  scheme.prefixes = builder->model().loaded_prefixes;
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
