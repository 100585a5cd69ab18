// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Families with routed experts. How to add one stands in dense_families.cc.
#include "src/model/attention_variants.h"
#include "src/model/decoders.h"
#include "src/model/mtp.h"

namespace reshard {
namespace {

using Config = ConfigReader;

/// Layers that all have the same attention.
void add_moe_decoder(ModelWriter* writer, const Attention& attention, const MoeFfn& ffn) {
  add_moe_decoder(
      writer, [&](std::int64_t) { add_attention(attention, writer); }, ffn);
}

/// As DeepSeek names them; the config says how many.
void add_moe_mtp_layers(const AddToLayer& attention, const MoeFfn& ffn, ModelWriter* writer) {
  add_mtp_layers(
      MtpForm::kNextn, 0, [&] { attention(0); }, [&](std::int64_t layer) { add_moe_ffn(ffn, layer, writer); }, writer);
}

void qwen3_moe(ModelWriter* writer) {
  writer->model().server.repeats_outer = true;
  const Attention attention = read_qwen3_attention(writer);
  add_moe_decoder(writer, attention, read_qwen_ffn(writer));
}

/// Beside the routed experts a shared one, whose output a sigmoid weighs.
void qwen2_moe(ModelWriter* writer) {
  writer->model().server.repeats_outer = true;
  writer->model().server.balances_experts = false;
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("qkv_bias", true);
  MoeFfn ffn = read_qwen_ffn(writer);
  read_qwen_shared(&ffn, writer);
  add_moe_decoder(writer, attention, ffn);
}

/// Experts in every layer, each as wide as intermediate_size.
MoeFfn read_plain_ffn(ModelWriter* writer) {
  MoeFfn ffn;
  ffn.routed.count = writer->config().count("num_local_experts|num_experts", Config::kExperts);
  ffn.routed.width = writer->config().count("intermediate_size", Config::kWidth);
  ffn.shared.width = 0;
  writer->model().num_experts = ffn.routed.count;
  writer->model().is_moe.assign(writer->num_config_layers(), true);
  return ffn;
}

/// w1 is the gate, w3 what it multiplies (up), w2 the way back.
void set_mixtral_names(Experts* experts) {
  experts->prefix = "block_sparse_moe";
  experts->gate = "w1";
  experts->up = "w3";
  experts->down = "w2";
}

void mixtral(ModelWriter* writer) {
  writer->model().server.repeats_outer = true;
  const Attention attention = read_attention(writer);
  MoeFfn ffn = read_plain_ffn(writer);
  set_mixtral_names(&ffn.routed);
  add_moe_decoder(writer, attention, ffn);
}

/// Norms over all heads of q, and of k, which vLLM cuts with the heads.
void minimax_m2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_whole_qk_norm = true;
  attention.is_whole_norm_cut = true;
  MoeFfn ffn = read_plain_ffn(writer);
  set_mixtral_names(&ffn.routed);
  ffn.routed.has_correction_bias = true;
  ffn.routed.has_fp32_correction = false;
  ffn.routed.correction = "e_score_correction_bias";
  ffn.routed.served_router = ServedType::kF32;
  writer->model().server.balances_experts = false;
  writer->model().megatron_lacks = "a norm over all heads of q";
  add_moe_decoder(writer, attention, ffn);
}

/// One shared expert, as wide as a routed one; the router is in fp32, but not on servers.
void hunyuan_v1_moe(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qk_norm = true;
  attention.q_norm = "query_layernorm";
  attention.k_norm = "key_layernorm";
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  MoeFfn ffn = read_plain_ffn(writer);
  ffn.routed.router = "gate.wg";
  ffn.routed.has_fp32_router = true;
  ffn.routed.served_router = ServedType::kModel;
  ffn.shared.prefix = "mlp.shared_mlp";
  ffn.shared.width = ffn.routed.width;
  ffn.shared.part = Part::kSharedExperts;
  add_moe_decoder(writer, attention, ffn);
}

/// gpt-oss: biases everywhere, a sink for every head, experts stacked with gate and up in turns.
void gpt_oss(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias", true);
  attention.has_sinks = true;
  attention.server_prefix = "attn";
  MoeFfn ffn = read_plain_ffn(writer);
  ffn.routed.form = Experts::Form::kInterleaved;
  ffn.routed.router = "router";
  ffn.routed.has_router_bias = true;
  writer->model().server.repeats_outer = true;
  writer->model().server.balances_experts = false;
  add_moe_decoder(writer, attention, ffn);
  writer->model().params.front().server_stem = "model.embedding";
}

/// Stacked experts in every so many layers, beside a shared one; vLLM has rows of q and k in another order.
void llama4_text(ModelWriter* writer) {
  Config& config = writer->config();
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = config.flag("attention_bias");
  attention.server_step = 2;
  MoeFfn ffn = read_plain_ffn(writer);
  ffn.dense.prefix = ffn.routed.prefix = "feed_forward";
  ffn.dense.width = config.count("intermediate_size_mlp", Config::kWidth);
  ffn.routed.form = Experts::Form::kStacked;
  ffn.routed.router = "router";
  ffn.shared.prefix = "feed_forward.shared_expert";
  ffn.shared.width = ffn.routed.width;
  ffn.shared.part = Part::kSharedExperts;
  Model& model = writer->model();
  const std::int64_t step = config.count_or("interleave_moe_layer_step", Config::kLayers, 1);
  for (std::size_t layer = 0; layer < model.is_moe.size(); ++layer) {
    model.is_moe[layer] = (layer + 1) % static_cast<std::size_t>(step) == 0;
  }
  if (config.has("moe_layers")) model.is_moe.assign(model.is_moe.size(), false);
  for (const std::int64_t layer : config.counts("moe_layers", Config::kLayers)) {
    if (static_cast<std::size_t>(layer) < model.is_moe.size()) model.is_moe[static_cast<std::size_t>(layer)] = true;
  }
  model.server.knows_whole_shared = true;
  model.server.balances_experts = false;
  add_moe_decoder(writer, attention, ffn);
}

/// Which layers have experts: every so many, from the first to the last that the config names.
void read_ernie_layers(ModelWriter* writer) {
  Config& config = writer->config();
  std::vector<bool>& is_moe = writer->model().is_moe;
  const auto first = static_cast<std::size_t>(config.count_or("moe_layer_start_index", Config::kLayers, 1, 0));
  const auto step = static_cast<std::size_t>(config.count_or("moe_layer_interval", Config::kLayers, 1));
  const std::int64_t last = config.count_or("moe_layer_end_index", Config::kLayers, -1, -1);
  for (std::size_t layer = first; layer < is_moe.size(); ++layer) {
    is_moe[layer] = (layer + 1) % step == 0 && (last < 0 || layer <= static_cast<std::size_t>(last));
  }
}

void ernie4_5_moe(ModelWriter* writer) {
  Config& config = writer->config();
  Model& model = writer->model();
  Attention attention = read_attention(writer);
  const bool has_bias = attention.has_qkv_bias = attention.has_output_bias = config.flag("use_bias");
  model.tie_embeddings = config.flag("tie_word_embeddings", true);
  model.server.ties_within_stage = true;
  MoeFfn ffn;
  ffn.dense = read_mlp(writer);
  ffn.dense.has_bias = ffn.shared.has_bias = has_bias;
  ffn.routed.count = config.count("moe_num_experts", Config::kExperts);
  ffn.routed.width = config.count("moe_intermediate_size", Config::kWidth);
  ffn.routed.has_fp32_router = true;
  ffn.routed.has_correction_bias = ffn.routed.is_correction_row = true;
  ffn.routed.correction = "moe_statics.e_score_correction_bias";
  ffn.routed.server_correction = "gate.e_score_correction_bias";
  ffn.shared.prefix = "mlp.shared_experts";
  ffn.shared.width = config.count_or("moe_num_shared_experts", Config::kExperts, 2, 0) * ffn.routed.width;
  ffn.shared.part = Part::kSharedExperts;
  read_ernie_layers(writer);
  model.num_experts = ffn.routed.count;
  add_moe_decoder(writer, attention, ffn);
  if (!has_bias) return;
  writer->add("output", "lm_head", "bias", {{Axis::kVocab, model.vocab_size}});
  model.megatron_lacks = "a bias of the output layer";
  serve_biases_of({"attention.q", "attention.k", "attention.v", "mlp.gate", "mlp.up", "mlp.down"}, writer);
}

/// Versions 2 and 3, and Kimi-K2, differ in how experts are selected.
struct DeepSeek {
  const char* topk_method = "noaux_tc";
  std::int64_t num_groups = 8;  ///< the default of transformers' class
  std::int64_t num_dense = 0;
  bool has_indexer = false;
  bool has_mtp = true;
};

void add_deepseek(const DeepSeek& version, ModelWriter* writer) {
  Config& config = writer->config();
  LatentAttention attention = read_latent_attention(writer);
  attention.has_bias = config.flag("attention_bias");
  const Indexer indexer = version.has_indexer ? read_indexer(attention.q_rank, writer) : Indexer();
  MoeFfn ffn = read_deepseek_ffn(writer, version.num_dense);
  // The bias of the router is there with the selection of DeepSeek-V3 ("noaux_tc"). A config that names the method is
  // what makes vLLM allocate it.
  ffn.routed.has_correction_bias = config.word("topk_method", version.topk_method) == "noaux_tc";
  ffn.routed.is_correction_served = config.has("topk_method");
  writer->model().num_expert_groups =
      config.count_or("n_group", Config::kExperts, config.is_null("n_group") ? 0 : version.num_groups);
  writer->model().server.never_ties = true;
  writer->model().server.knows_whole_shared = true;
  const auto add = [&](std::int64_t) {
    add_latent_attention(attention, writer);
    if (version.has_indexer) add_indexer(indexer, writer);
  };
  add_moe_decoder(writer, add, ffn);
  if (version.has_mtp) add_moe_mtp_layers(add, ffn, writer);
}

void deepseek_v2(ModelWriter* writer) {
  add_deepseek({"greedy", 1, 0, false, /*has_mtp=*/false}, writer);
}

void deepseek_v3(ModelWriter* writer) {
  add_deepseek({}, writer);
}

void kimi_k2(ModelWriter* writer) {
  deepseek_v3(writer);
  writer->model().server.makes_draft = false;
}

/// The same with sparse attention.
void deepseek_v32(ModelWriter* writer) {
  add_deepseek({"noaux_tc", 8, 3, true}, writer);
}

/// GLM-4.5 and 4.6.
void glm4_moe(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("attention_bias");
  attention.has_qk_norm = writer->config().flag("use_qk_norm");
  MoeFfn ffn = read_deepseek_ffn(writer, 1);
  ffn.routed.has_correction_bias = true;
  ffn.routed.served_router = ServedType::kF32;
  writer->model().num_expert_groups = writer->config().count_or("n_group", Config::kExperts, 1);
  add_moe_decoder(writer, attention, ffn);
  add_moe_mtp_layers([&](std::int64_t) { add_attention(attention, writer); }, ffn, writer);
}

constexpr Family kMoeFamilies[] = {
    {"qwen2_moe", qwen2_moe},     {"qwen3_moe", qwen3_moe},           {"mixtral", mixtral},
    {"minimax_m2", minimax_m2},   {"hunyuan_v1_moe", hunyuan_v1_moe}, {"gpt_oss", gpt_oss},
    {"llama4_text", llama4_text}, {"ernie4_5_moe", ernie4_5_moe},     {"deepseek_v2", deepseek_v2},
    {"deepseek_v3", deepseek_v3}, {"deepseek_v32", deepseek_v32},     {"kimi_k2", kimi_k2},
    {"glm4_moe", glm4_moe},
};

}  // namespace

std::span<const Family> moe_families() {
  return kMoeFamilies;
}

}  // namespace reshard
