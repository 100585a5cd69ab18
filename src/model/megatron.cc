// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the ranks of a Megatron-Core job hold. Two things make it unlike vLLM: linear_qkv is interleaved by query group,
// and routed experts lie on a mesh of their own over the same ranks, so that a stage has two meshes.
#include <iterator>
#include <numeric>
#include <span>

#include "src/base/arithmetic.h"
#include "src/model/lora.h"
#include "src/model/megatron_settings.h"
#include "src/model/placer.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

/// Names of Megatron-Core's local layer specification. Layer numbers stay those of the model, as in Megatron's
/// distributed checkpoints.
constexpr NameRule kMegatronNames[] = {
    {"embedding", "embedding.word_embeddings"},
    {"final_norm", "decoder.final_layernorm"},
    {"output", "output_layer"},
    {"attention_norm", "input_layernorm"},
    {"mlp_norm", "pre_mlp_layernorm"},
    {"attention.q_norm", "self_attention.q_layernorm"},
    {"attention.k_norm", "self_attention.k_layernorm"},
    {"attention.o", "self_attention.linear_proj"},
    {"latent.q", "self_attention.linear_q_proj"},
    {"latent.q_down", "self_attention.linear_q_down_proj"},
    {"latent.q_norm", "self_attention.q_layernorm"},
    {"latent.q_up", "self_attention.linear_q_up_proj"},
    {"latent.kv_down", "self_attention.linear_kv_down_proj"},
    {"latent.kv_norm", "self_attention.kv_layernorm"},
    {"latent.kv_up", "self_attention.linear_kv_up_proj"},
    {"mlp.up", "mlp.linear_fc1"},
    {"mlp.down", "mlp.linear_fc2"},
    {"router", "mlp.router"},
    {"router.correction", "mlp.router.expert_bias"},
    {"experts.up", "mlp.experts.linear_fc1"},
    {"experts.down", "mlp.experts.linear_fc2"},
    {"shared.weight", "mlp.shared_experts.gate_"},
    {"position_embedding", "embedding.position_embeddings"},
    {"shared.up", "mlp.shared_experts.linear_fc1"},
    {"shared.down", "mlp.shared_experts.linear_fc2"},
    {"stacked.down", "mlp.experts.linear_fc2"},
    {"attention.sinks", "self_attention.core_attention.softmax_offset"},
    {"indexer.q", "self_attention.core_attention.indexer.linear_wq_b"},
    {"indexer.k", "self_attention.core_attention.indexer.linear_wk"},
    {"indexer.k_norm", "self_attention.core_attention.indexer.k_norm"},
    {"indexer.weights", "self_attention.core_attention.indexer.linear_weights_proj"},
    {"linear.dt_bias", "self_attention.dt_bias"},
    {"linear.decay", "self_attention.A_log"},
    {"linear.out", "self_attention.out_proj"},
    {"mtp.embedding_norm", "enorm"},
    {"mtp.hidden_norm", "hnorm"},
    {"mtp.projection", "eh_proj"},
    {"mtp.final_norm", "final_layernorm"},
    {"projector.norm", "image_encoder.projector.layernorm"},
    {"projector.up", "image_encoder.projector.encoder.linear_fc1"},
    {"projector.down", "image_encoder.projector.encoder.linear_fc2"},
};

/// Of experts that are modules of their own (SequentialMLP), and of the one that the older grouped GEMM had, whose
/// parameters no module wraps. Names in front hide those of the table above.
constexpr NameRule kLocalNames[] = {
    {"experts.up", "mlp.experts.local_experts.linear_fc1"},
    {"experts.down", "mlp.experts.local_experts.linear_fc2"},
};
constexpr FusedRule kLocalFused = {
    "mlp.experts.local_experts.linear_fc1", {"experts.gate", "experts.up"}, FusedRule::Units::kBlocks};
constexpr NameRule kGroupedNames[] = {
    {"experts.up", "mlp.experts.weight1", /*has_leaf=*/false},
    {"experts.down", "mlp.experts.weight2", /*has_leaf=*/false},
};
constexpr FusedRule kGroupedFused = {
    "mlp.experts.weight1", {"experts.gate", "experts.up"}, FusedRule::Units::kBlocks, /*has_leaf=*/false};

constexpr FusedRule kFused[] = {
    // Of gated attention a group has its q heads, then their gates.
    {"self_attention.linear_qkv",
     {"attention.q", "attention.q_gate", "attention.k", "attention.v"},
     FusedRule::Units::kGroups},
    // Gated delta nets: every rank has its heads of q, then of k, and so on.
    {"self_attention.in_proj", {"linear.q", "linear.k", "linear.v", "linear.z", "linear.b", "linear.a"}},
    {"self_attention.conv1d", {"linear.conv_q", "linear.conv_k", "linear.conv_v"}},
    {"mlp.linear_fc1", {"mlp.gate", "mlp.up"}},
    {"mlp.experts.linear_fc1", {"experts.gate", "experts.up"}, FusedRule::Units::kBlocks},
    {"mlp.shared_experts.linear_fc1", {"shared.gate", "shared.up"}},
};

/// MindSpeed's: the down-projections are one parameter; of the up-projections each of two parts.
constexpr FusedRule kFusedDown = {"self_attention.linear_qkv", {"latent.q_down", "latent.kv_down"}};
constexpr FusedRule kSplitUp[] = {
    {"self_attention.linear_qk_nope", {"latent.q_nope"}},
    {"self_attention.linear_qk_rope", {"latent.q_rope"}},
    {"self_attention.linear_kv_nope", {"latent.k_nope"}},
    {"self_attention.linear_v", {"latent.v"}},
};

// Axes of the two meshes that a stage has. Its ranks are the same in both: tensor parallel fastest for dense
// parameters (order tp-cp-ep-dp-pp; cp repeats as dp does), expert-tensor parallel, then expert parallel, for the
// routed experts.
constexpr int kTpAxis = 1;
constexpr int kEpAxis = 1;
constexpr int kEtpAxis = 2;

Status make_meshes(const MegatronSettings& settings, const LayoutBuilder& builder, Scheme* scheme) {
  const std::int32_t replicas = settings.cp * settings.dp, stage_ranks = settings.tp * replicas;
  // Replicas of an expert: what ep and etp leave of the stage. It divides evenly, the settings have been checked.
  const std::int64_t expert_dp = stage_ranks / (settings.ep * settings.etp);
  for (std::int32_t stage = 0; stage < settings.pp; ++stage) {
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(stage_ranks));
    std::iota(ranks.begin(), ranks.end(), stage * stage_ranks);
    RESHARD_TRY(const MeshPtr dense, builder.mesh({{"dp", replicas}, {"tp", settings.tp}}, ranks));
    RESHARD_TRY(const MeshPtr experts,
                builder.mesh({{"edp", expert_dp}, {"ep", settings.ep}, {"etp", settings.etp}}, std::move(ranks)));
    scheme->parts[static_cast<std::size_t>(Part::kDense)].meshes.push_back(dense);
    scheme->parts[static_cast<std::size_t>(Part::kSharedExperts)].meshes.push_back(dense);
    scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)].meshes.push_back(experts);
  }
  return {};
}

void make_cuts(const MegatronSettings& settings, Scheme* scheme) {
  for (const Part part : {Part::kDense, Part::kSharedExperts}) {
    for (const Axis axis : {Axis::kVocab, Axis::kHead, Axis::kKvHead, Axis::kFfn}) {
      scheme->parts[static_cast<std::size_t>(part)].cut(axis, {"tp", settings.tp, {kTpAxis}});
    }
    if (settings.mla_down == "cut") {
      scheme->parts[static_cast<std::size_t>(part)].cut(Axis::kLatent, {"tp", settings.tp, {kTpAxis}});
    }
  }
  PartRules& routed = scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)];
  routed.cut(Axis::kExpert, {"ep", settings.ep, {kEpAxis}});
  routed.cut(Axis::kFfn, {"etp", settings.etp, {kEtpAxis}});
}

/// How the experts of a rank lie in memory: TransformerEngine's grouped linear has a parameter "weight0", "weight1",
/// ... for each; without it each is a module, or all are one tensor.
void name_experts(const std::string& experts, Scheme* scheme) {
  const auto prepend = [&](std::span<const NameRule> names, const FusedRule& fused) {
    scheme->names.insert(scheme->names.begin(), names.begin(), names.end());
    scheme->fused.insert(scheme->fused.begin(), fused);
  };
  if (experts == "each") {
    scheme->expert_buffers = ExpertBuffers::kLeafEach;
  } else if (experts == "local") {
    scheme->expert_buffers = ExpertBuffers::kModuleEach;
    prepend(kLocalNames, kLocalFused);
  } else {
    prepend(kGroupedNames, kGroupedFused);
    // It keeps the two dims of an expert's weight exchanged; indices stay as they are.
    scheme->parts[static_cast<std::size_t>(Part::kRoutedExperts)].is_transposed = true;
  }
}

/// A model of a vision tower and a decoder: MindSpeed's names of both.
void name_parts(Scheme* scheme) {
  scheme->vision_prefix = "image_encoder.encoder.blocks.layers";
  scheme->prefixes = {{"decoder.", "text_decoder.decoder."},
                      {"embedding.", "text_decoder.embedding."},
                      {"output_layer.", "text_decoder.output_layer."},
                      {"visual.", "image_encoder.encoder."},
                      {"model.visual.", "image_encoder.encoder."}};
  scheme->tied_output = with_prefix(scheme->tied_output, scheme->prefixes);
}

/// Layers for multi-token prediction, of MultiTokenPredictionBlock. Their stage has the embedding, too; the decoder's
/// last norm is then where its last layer is.
void place_mtp(const Model& model, const Stages& decoder, const Stages& mtp, Scheme* scheme) {
  if (model.num_mtp_layers == 0) return;
  scheme->mtp_stages = &mtp;
  scheme->mtp_prefix = "mtp.layers";
  scheme->mtp_module = "transformer_layer";
  scheme->final_norm_stage = decoder.place_of(model.num_layers - 1).stage;
  if (mtp.place_of(0).stage > 0) scheme->mtp_embedding_stage = mtp.place_of(0).stage;
  scheme->mtp_embedding = "embedding.word_embeddings.weight";
}

}  // namespace

Result<std::int32_t> megatron_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const MegatronSettings settings, read_megatron_settings(text));
  return text.num_ranks({settings.tp, settings.cp, settings.pp, settings.dp});
}

Status place_megatron(const LayoutText& text, LayoutBuilder* builder) {
  const Model& model = builder->model();
  RESHARD_TRY(const MegatronSettings settings, read_megatron_settings(text));
  RESHARD_TRY(const Stages stages, megatron_stages(text, settings, model));
  RESHARD_TRY(const Stages mtp_stages, megatron_mtp_stages(text, settings, model, stages));
  RESHARD_TRY(check_megatron_modules(text, settings, *builder));
  RESHARD_TRY(const Stages vision_stages, megatron_vision_stages(text, settings, model));
  RESHARD_TRY(check_megatron_sizes(text, settings, model));
  Scheme scheme;
  scheme.layer_prefix = "decoder.layers";
  scheme.counts_in_chunk = settings.counts_in_chunk;
  scheme.holds_out_in = true;
  scheme.names.assign(std::begin(kMegatronNames), std::end(kMegatronNames));
  scheme.fused.assign(std::begin(kFused), std::end(kFused));
  name_megatron_adapters(&scheme);
  if (settings.mla_down == "fused") scheme.fused.push_back(kFusedDown);
  if (settings.splits_mla_up) scheme.fused.insert(scheme.fused.end(), std::begin(kSplitUp), std::end(kSplitUp));
  scheme.glu_block = settings.glu_interleave;
  // make_vocab_size_divisible_by; the rows behind the vocabulary are padding.
  const std::int64_t multiple = std::int64_t{settings.vocab_multiple} * settings.tp;
  scheme.padded_vocab = ceil_div(model.vocab_size, multiple) * multiple;
  scheme.num_stages = settings.pp;
  scheme.stages = &stages;
  scheme.vision_stages = &vision_stages;
  // The last stage keeps a copy of its own of a tied embedding as output layer; on one stage there is but one.
  scheme.tied_output = "output_layer.weight";
  place_mtp(model, stages, mtp_stages, &scheme);
  if (has_tower(model)) name_parts(&scheme);
  name_experts(settings.experts, &scheme);
  make_cuts(settings, &scheme);
  RESHARD_TRY(make_meshes(settings, *builder, &scheme));
  return place_model(text, scheme, builder);
}

}  // namespace reshard
