// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What an SGLang server holds. It began as vLLM's: fused parameters, their order and the padding of the vocabulary are
// the same. It differs in its ranks (attention and experts divide the same tp ranks each in its own way), in what is
// whole, and in some names. Read from its source (sglang_settings.cc says which); the package has not been run beside
// it.
#include <fmt/format.h>

#include <iterator>

#include "src/base/arithmetic.h"
#include "src/model/placer.h"
#include "src/model/schemes.h"
#include "src/model/sglang_settings.h"

namespace reshard {
namespace {

/// layers/moe/fused_moe_triton/layer.py: the experts' parameters are those of the module that the checkpoint names.
constexpr NameRule kSglangNames[] = {{"experts.down", "w2_"}};

constexpr FusedRule kSglangFused[] = {
    {"qkv_proj", {"attention.gated_q", "attention.q", "attention.k", "attention.v"}},
    // models/deepseek_v2.py: not cut, [q_a | kv_a]; without a low rank of q kv_a stands alone.
    {"fused_qkv_a_proj_with_mqa", {"latent.q_down", "latent.kv_down"}},
    {"gate_up_proj", {"mlp.gate", "mlp.up"}},
    {"gate_up_proj", {"shared.gate", "shared.up"}},
    {"w13_", {"experts.gate", "experts.up"}},
};

/// distributed/utils.py, get_pp_indices: what does not divide goes one each to the last stages.
std::vector<std::int64_t> layers_per_stage(std::int64_t num_layers, std::int64_t pp) {
  std::vector<std::int64_t> layers(static_cast<std::size_t>(pp), num_layers / pp);
  for (std::int64_t i = 0; i < num_layers % pp; ++i) ++layers[static_cast<std::size_t>(pp - 1 - i)];
  return layers;
}

// Axes of the two meshes of a stage, over the same ranks: (replica, attention group, index in it) for all but the
// routed experts, (replica, expert group, index in it) for those. tp is the last two of either.
constexpr int kGroupAxis = 1;
constexpr int kIndexAxis = 2;

Status make_meshes(const SglangSettings& settings, const LayoutBuilder& builder, Scheme* scheme) {
  for (std::int32_t stage = 0; stage < settings.pp; ++stage) {
    std::vector<std::int32_t> ranks;
    for (std::int32_t replica = 0; replica < settings.replicas; ++replica) {
      for (std::int32_t t = 0; t < settings.tp; ++t) ranks.push_back((replica * settings.pp + stage) * settings.tp + t);
    }
    const MeshAxis replicas{"replica", settings.replicas};
    RESHARD_TRY(const MeshPtr attention, builder.mesh({replicas,
                                                       {"attention_dp", settings.attention_dp},
                                                       {"attention_tp", settings.tp / settings.attention_dp}},
                                                      ranks));
    RESHARD_TRY(const MeshPtr experts,
                builder.mesh({replicas, {"ep", settings.ep}, {"moe_tp", settings.tp / settings.ep}}, std::move(ranks)));
    scheme->parts[static_cast<std::size_t>(Part::kDense)].meshes.push_back(attention);
    scheme->parts[static_cast<std::size_t>(Part::kSharedExperts)].meshes.push_back(attention);
    scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)].meshes.push_back(experts);
  }
  return {};
}

void make_cuts(const SglangSettings& settings, Scheme* scheme) {
  const Cut whole{"", 1, {}}, by_tp{"tp", settings.tp, {kGroupAxis, kIndexAxis}},
      by_group{"attention tp", settings.tp / settings.attention_dp, {kIndexAxis}};
  PartRules& dense = scheme->parts[static_cast<std::size_t>(Part::kDense)];
  dense.cut(Axis::kHead, by_group);
  dense.cut(Axis::kKvHead, by_group);
  dense.cut(Axis::kFfn, settings.has_whole_dense ? whole : by_tp);
  // With groups each embeds its own tokens: enable_tp is off for the embedding; the padding stays.
  dense.cut(Axis::kVocab, settings.attention_dp > 1 ? whole : by_tp);
  scheme->output_cut = settings.cuts_output_by_group ? by_group : by_tp;
  scheme->parts[static_cast<std::size_t>(Part::kSharedExperts)].cut(Axis::kFfn,
                                                                    settings.has_whole_shared ? whole : by_tp);
  PartRules& routed = scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)];
  routed.cut(Axis::kExpert, {"ep", settings.ep, {kGroupAxis}});
  routed.cut(Axis::kFfn, {"tp / ep", settings.tp / settings.ep, {kIndexAxis}});
}

}  // namespace

Result<std::int32_t> sglang_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const SglangSettings settings, read_sglang_settings(text));
  return text.num_ranks({settings.tp, settings.pp, settings.replicas});
}

Status place_sglang(const LayoutText& text, LayoutBuilder* builder) {
  const Model& model = builder->model();
  RESHARD_TRY(const SglangSettings settings, read_sglang_settings(text));
  RESHARD_TRY(check_sglang_model(text, settings, model));
  const std::vector<std::int64_t> layers =
      settings.layers.empty() ? layers_per_stage(model.num_layers, settings.pp) : settings.layers;
  RESHARD_TRY(const Stages stages, make_stages(text, {layers, 1, {}}, model.num_layers));
  Scheme scheme;
  scheme.keeps_modules = true;
  scheme.holds_out_in = true;
  scheme.names.assign(std::begin(kSglangNames), std::end(kSglangNames));
  scheme.fused.assign(std::begin(kSglangFused), std::end(kSglangFused));
  // layers/vocab_parallel_embedding.py: to a multiple of 64 rows, whatever cuts them.
  scheme.padded_vocab = ceil_div(model.vocab_size, 64) * 64;
  scheme.num_stages = settings.pp;
  scheme.stages = &stages;
  scheme.is_server = true;
  // The last stage has a tied embedding as an output layer of its own.
  scheme.tied_output = "lm_head.weight";
  make_cuts(settings, &scheme);
  RESHARD_TRY(text.check_divides(settings.attention_dp > 1 ? "the ranks of the output layer" : "tp",
                                 scheme.output_cut->num_parts, "the padded vocabulary", scheme.padded_vocab));
  RESHARD_TRY(make_meshes(settings, *builder, &scheme));
  if (settings.ep > 1) {
    RESHARD_TRY(scheme.expert_maps, make_expert_maps(text, settings.experts, model, settings.ep));
  }
  return place_model(text, scheme, builder);
}

}  // namespace reshard
