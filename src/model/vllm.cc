// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a vLLM engine holds: its stages, its tensor-parallel cuts with fused parameters, and its experts.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "src/base/arithmetic.h"
#include "src/model/expert_maps.h"
#include "src/model/lora.h"
#include "src/model/placer.h"
#include "src/model/schemes.h"
#include "src/model/vllm_settings.h"

namespace reshard {
namespace {

/// Names of vLLM 0.32 where they differ from the checkpoint's, in place of the last component.
constexpr NameRule kNames[] = {
    {"experts.down", "routed_experts.w2_"},
    {"stacked.down", "routed_experts.w2_"},
    {"stacked.interleaved", "routed_experts.w13_"},
    {"stacked.gate_up", "routed_experts.w13_"},
};

constexpr FusedRule kFused[] = {
    {"qkv_proj", {"attention.gated_q", "attention.q", "attention.k", "attention.v"}},
    // Not cut, so that each rank is the one unit: [q_a | kv_a]. Without a low rank of q there is nothing to fuse.
    {"fused_qkv_a_proj", {"latent.q_down", "latent.kv_down"}},
    {"wk_weights_proj", {"indexer.k", "indexer.weights"}},
    // Of linear attention each rank has its heads of q, then of k, and so on; what the checkpoint has interleaved by
    // key heads stays so.
    {"in_proj_qkvz", {"linear.qkvz", "linear.q", "linear.k", "linear.v", "linear.z"}},
    {"in_proj_ba", {"linear.ba", "linear.b", "linear.a"}},
    {"conv1d", {"linear.conv_q", "linear.conv_k", "linear.conv_v"}},
    {"in_proj_qkvgfab", {"kda.q", "kda.k", "kda.v", "kda.b", "kda.f_down"}},
    {"conv1d", {"kda.conv_q", "kda.conv_k", "kda.conv_v"}},
    {"gate_up_proj", {"mlp.gate", "mlp.up"}},
    {"gate_up_proj", {"shared.gate", "shared.up"}},
    // gpt-oss has gate and up in turns, here as in the checkpoint.
    {"routed_experts.w13_", {"stacked.interleaved", "experts.gate", "experts.up"}},
};

/// vLLM's get_pp_indices: what does not divide goes one each to the stages before the last, from the back, because the
/// last one also has the output layer.
std::vector<std::int64_t> layers_per_stage(std::int64_t num_layers, std::int64_t pp) {
  std::vector<std::int64_t> layers(static_cast<std::size_t>(pp), num_layers / pp);
  for (std::int64_t i = 0; i < num_layers % pp; ++i) ++layers[static_cast<std::size_t>(pp - 2 - i)];
  return layers;
}

/// vLLM pads the vocabulary to a multiple of 64 rows before it is cut, whatever tp is.
std::int64_t padded_vocab(const Model& model) {
  return ceil_div(model.vocab_size, 64) * 64;
}

/// What vLLM itself demands of the heads and the vocabulary; the widths are checked where they are cut.
Status check_sizes(const LayoutText& text, const VllmSettings& settings, const Model& model) {
  if (!model.server.is_known) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("\"{}\": how vLLM holds {} is not known here; the other kinds of layouts know it", text.text(),
                        model.model_type)};
  }
  if (model.server.never_ties && model.tie_embeddings) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("\"{}\": tie_word_embeddings is true, but vLLM's {} has an output layer of its own and would "
                        "leave it without values",
                        text.text(), model.model_type)};
  }
  const auto routed = std::find_if(model.params.begin(), model.params.end(),
                                   [](const Param& param) { return param.role == "experts.down"; });
  const std::int64_t width = routed == model.params.end() ? 0 : routed->dims[2].count / settings.tp;
  if (settings.tp > 1 && !settings.has_ep && width > 0 && width < model.server.least_expert_width) {
    return {
        RESHARD_ERR_NOT_SUPPORTED,
        fmt::format("\"{}\": tp = {} leaves {} of an expert's width to a rank, which vLLM's {} pads to {}; that is not "
                    "known here: use ep, or a smaller tp",
                    text.text(), settings.tp, width, model.model_type, model.server.least_expert_width)};
  }
  if (model.server.ties_within_stage && model.tie_embeddings && settings.pp > 1) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("\"{}\": vLLM's {} cannot tie its output layer to an embedding on another stage: pp must be 1",
                        text.text(), model.model_type)};
  }
  if (model.num_mtp_layers > 0 && !model.server.makes_draft) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("\"{}\": mtp is {}, but vLLM makes no draft model of {}; leave it out", text.text(),
                        model.num_mtp_layers, model.model_type)};
  }
  if (text.find("mm_encoder_tp_mode") != nullptr && !has_tower(model)) {
    return text.error(fmt::format("mm_encoder_tp_mode is given, but {} has no vision tower", model.model_type));
  }
  const std::int64_t tp = settings.tp, kv_heads = model.num_kv_heads;
  RESHARD_TRY(text.check_divides("tp", tp, "num_attention_heads", model.num_heads));
  if (kv_heads > 0 && kv_heads % tp != 0 && tp % kv_heads != 0) {
    return text.error(fmt::format("tp = {} neither divides num_key_value_heads = {} nor is a multiple", tp, kv_heads));
  }
  return text.check_divides("tp", tp, "the padded vocabulary", padded_vocab(model));
}

// Axes of a stage's mesh. vLLM numbers its ranks (replica, dp, pp, tp), tp fastest.
constexpr int kDpAxis = 1;
constexpr int kTpAxis = 2;

Status make_meshes(const VllmSettings& settings, const LayoutBuilder& builder, Scheme* scheme) {
  // A stage's ranks are not consecutive: pp lies between dp and tp, so that its mesh lists them one by one.
  const std::vector<MeshAxis> axes = {{"replica", settings.replicas}, {"dp", settings.dp}, {"tp", settings.tp}};
  const std::int32_t num_outer = settings.replicas * settings.dp;
  for (std::int32_t stage = 0; stage < settings.pp; ++stage) {
    std::vector<std::int32_t> ranks;
    for (std::int32_t outer = 0; outer < num_outer; ++outer) {
      for (std::int32_t t = 0; t < settings.tp; ++t) ranks.push_back((outer * settings.pp + stage) * settings.tp + t);
    }
    RESHARD_TRY(const MeshPtr mesh, builder.mesh(axes, std::move(ranks)));
    for (PartRules& part : scheme->parts) part.meshes.push_back(mesh);
  }
  return {};
}

/// The rules of a stage: tp cuts what is dense, experts are spread over all ranks with ep, else cut over them.
void make_cuts(const VllmSettings& settings, const Model& model, Scheme* scheme) {
  PartRules& dense = scheme->parts[static_cast<std::size_t>(Part::kDense)];
  PartRules& shared = scheme->parts[static_cast<std::size_t>(Part::kSharedExperts)];
  PartRules& routed = scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)];
  for (const Axis axis : {Axis::kVocab, Axis::kHead, Axis::kKvHead, Axis::kFfn}) {
    dense.cut(axis, {"tp", settings.tp, {kTpAxis}});
  }
  // With sequence-parallel experts each rank computes the shared experts for its own tokens: it holds them whole.
  const bool is_whole = is_sequence_parallel_moe(settings) && model.server.knows_whole_shared &&
                        (settings.pp == 1 || !model.server.is_whole_on_one_stage);
  shared.cut(Axis::kFfn, is_whole ? Cut{} : Cut{"tp", settings.tp, {kTpAxis}});
  const std::vector<int> all_ranks = {kDpAxis, kTpAxis};
  if (settings.has_ep) {
    routed.cut(Axis::kExpert, {"ep", std::int64_t{settings.tp} * settings.dp, all_ranks});
    routed.cut(Axis::kFfn, {});
  } else {
    routed.cut(Axis::kFfn, {"tp x dp", std::int64_t{settings.tp} * settings.dp, all_ranks});
    // Behind the down-projection ranks sum up what they have: the first one alone adds the bias.
    routed.cut(Axis::kAddend, {"tp x dp", std::int64_t{settings.tp} * settings.dp, all_ranks});
  }
}

/// Layers for multi-token prediction are a model of their own, the draft, on the last stage. Its embedding and output
/// layer are the target's, but for the embedding of a server of several stages.
void name_draft(const VllmSettings& settings, const Model& model, Scheme* scheme) {
  if (model.num_mtp_layers == 0) return;
  scheme->draft_prefix = "draft.";
  scheme->prefixes.push_back({"draft.mtp.", "draft.model."});
  if (settings.pp > 1) scheme->mtp_embedding_stage = settings.pp - 1;
  scheme->mtp_embedding = "draft.model.embed_tokens.weight";
}

}  // namespace

Result<std::int32_t> vllm_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const VllmSettings settings, read_vllm_settings(text));
  return text.num_ranks({settings.tp, settings.pp, settings.dp, settings.replicas});
}

Status place_vllm(const LayoutText& text, LayoutBuilder* builder) {
  const Model& model = builder->model();
  RESHARD_TRY(const VllmSettings settings, read_vllm_settings(text));
  RESHARD_TRY(check_sizes(text, settings, model));
  RESHARD_TRY(check_round_robin(text, settings, model));
  RESHARD_TRY(check_balanced(text, settings, model));
  const std::vector<std::int64_t> layers =
      settings.layers.empty() ? layers_per_stage(model.num_layers, settings.pp) : settings.layers;
  RESHARD_TRY(const Stages stages, make_stages(text, {layers, 1, {}}, model.num_layers));
  Scheme scheme;
  scheme.keeps_modules = true;
  scheme.holds_out_in = true;
  scheme.names.assign(std::begin(kNames), std::end(kNames));
  scheme.fused.assign(std::begin(kFused), std::end(kFused));
  name_vllm_adapters(&scheme);
  scheme.padded_vocab = padded_vocab(model);
  scheme.num_stages = settings.pp;
  scheme.stages = &stages;
  scheme.repeats_outer = model.server.repeats_outer;
  scheme.is_server = true;
  scheme.prefixes = model.server.prefixes;
  scheme.has_whole_vision = settings.mm_encoder_tp_mode == "data";
  // The last stage loads a tied embedding, too, under its own name, and uses it as its output layer.
  const auto embedding = std::find_if(model.params.begin(), model.params.end(),
                                      [](const Param& param) { return param.role == "embedding"; });
  if (embedding != model.params.end()) {
    scheme.tied_output = with_prefix(checkpoint_name(model, *embedding), scheme.prefixes);
  }
  const Stages mtp_stages = Stages::on_one(settings.pp - 1, 0, model.num_mtp_layers);
  name_draft(settings, model, &scheme);
  scheme.mtp_stages = &mtp_stages;
  make_cuts(settings, model, &scheme);
  RESHARD_TRY(make_meshes(settings, *builder, &scheme));
  if (settings.has_ep) {
    // Every rank of a stage is an expert-parallel rank: vLLM has no expert-tensor parallelism beside it.
    const std::int64_t ep = std::int64_t{settings.tp} * settings.dp;
    RESHARD_TRY(scheme.expert_maps, make_expert_maps(text, settings.experts, model, ep));
  }
  return place_model(text, scheme, builder);
}

}  // namespace reshard
