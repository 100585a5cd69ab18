// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Families with routed experts. How to add one stands in dense_families.cc.
#include "src/model/decoders.h"

namespace reshard {
namespace {

using Config = ConfigReader;

/// The experts of Qwen2-MoE and Qwen3-MoE, and which layers have them.
Experts read_qwen_experts(ModelWriter* writer) {
  Config& config = writer->config();
  Experts experts;
  // transformers 5 writes num_local_experts where 4 wrote num_experts.
  experts.count = config.count("num_experts|num_local_experts", Config::kExperts);
  experts.width = config.count("moe_intermediate_size", Config::kWidth);
  const auto step = static_cast<std::size_t>(config.count_or("decoder_sparse_step", Config::kLayers, 1));
  std::vector<bool>& is_moe = writer->model().is_moe;
  // Counted from 1: with step 2 the layers 1, 3, 5 have experts. DeepSeek's frequency, below, counts from 0.
  for (std::size_t layer = 0; layer < is_moe.size(); ++layer) is_moe[layer] = (layer + 1) % step == 0;
  for (const std::int64_t layer : config.counts("mlp_only_layers", Config::kLayers)) {
    if (static_cast<std::size_t>(layer) < is_moe.size()) is_moe[static_cast<std::size_t>(layer)] = false;
  }
  writer->model().num_experts = experts.count;
  writer->model().server.repeats_outer = true;
  return experts;
}

void qwen3_moe(ModelWriter* writer) {
  const Attention attention = read_qwen3_attention(writer);
  const Mlp mlp = read_mlp(writer);
  Mlp none;
  none.width = 0;
  add_moe_decoder(
      writer, [&] { add_attention(attention, writer); }, mlp, read_qwen_experts(writer), none);
}

/// Beside the routed experts a shared one, whose output a sigmoid weighs.
void qwen2_moe(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("qkv_bias", true);
  const Mlp mlp = read_mlp(writer);
  const Experts experts = read_qwen_experts(writer);
  Mlp shared;
  shared.prefix = "mlp.shared_expert";
  shared.width = writer->config().count("shared_expert_intermediate_size", Config::kWidth);
  shared.part = Part::kSharedExperts;
  add_decoder(
      writer, [&] { add_attention(attention, writer); },
      [&](std::int64_t layer) {
        if (!writer->model().is_moe[static_cast<std::size_t>(layer)]) return add_mlp(mlp, writer);
        add_experts(experts, writer);
        add_mlp(shared, writer);
        writer->linear("shared.weight", "mlp.shared_expert_gate", {Axis::kPlain, 1}, writer->hidden());
      });
}

/// Every layer has experts, and intermediate_size is the width of one of them.
void mixtral(ModelWriter* writer) {
  const Attention attention = read_attention(writer);
  Experts experts;
  experts.prefix = "block_sparse_moe";
  // w1 is the gate, w3 what it multiplies (up), w2 the way back.
  experts.gate = "w1";
  experts.up = "w3";
  experts.down = "w2";
  experts.count = writer->config().count("num_local_experts", Config::kExperts);
  experts.width = writer->config().count("intermediate_size", Config::kWidth);
  writer->model().num_experts = experts.count;
  writer->model().is_moe.assign(writer->num_config_layers(), true);
  writer->model().server.repeats_outer = true;
  add_decoder(
      writer, [&] { add_attention(attention, writer); }, [&](std::int64_t) { add_experts(experts, writer); });
}

/// What DeepSeek, and those who took over its experts, say of them: routed, shared, and the layers that have them.
struct DeepSeekExperts {
  Experts routed;
  Mlp shared;
};

DeepSeekExperts read_deepseek_experts(ModelWriter* writer, std::int64_t num_dense_unless_told) {
  Config& config = writer->config();
  Model& model = writer->model();
  DeepSeekExperts experts;
  experts.routed.count = config.count("n_routed_experts", Config::kExperts);
  experts.routed.width = config.count("moe_intermediate_size", Config::kWidth);
  experts.shared.prefix = "mlp.shared_experts";
  experts.shared.width = config.count_or("n_shared_experts", Config::kExperts, 0, 0) * experts.routed.width;
  experts.shared.part = Part::kSharedExperts;
  const auto num_dense =
      static_cast<std::size_t>(config.count_or("first_k_dense_replace", Config::kLayers, num_dense_unless_told, 0));
  const auto frequency = static_cast<std::size_t>(config.count_or("moe_layer_freq", Config::kLayers, 1));
  for (std::size_t layer = num_dense; layer < model.is_moe.size(); ++layer) {
    model.is_moe[layer] = layer % frequency == 0;
  }
  model.num_experts = experts.routed.count;
  return experts;
}

/// Versions 2 and 3, and Kimi-K2, differ in how experts are selected. num_nextn_predict_layers is not looked at: the
/// multi-token-prediction layer behind the last one belongs neither to the published 671B nor to the model that a
/// server loads.
void deepseek(ModelWriter* writer, const std::string& topk_method, std::int64_t num_groups) {
  Config& config = writer->config();
  LatentAttention attention = read_latent_attention(writer);
  attention.has_bias = config.flag("attention_bias");
  const Mlp mlp = read_mlp(writer);
  DeepSeekExperts experts = read_deepseek_experts(writer, 0);
  // The bias of the router is there with the selection of DeepSeek-V3 ("noaux_tc"). A config that names the method is
  // what makes vLLM allocate it.
  experts.routed.has_correction_bias = config.word("topk_method", topk_method) == "noaux_tc";
  experts.routed.is_correction_served = config.has("topk_method");
  writer->model().num_expert_groups =
      config.count_or("n_group", Config::kExperts, config.is_null("n_group") ? 0 : num_groups);
  writer->model().server.never_ties = true;
  writer->model().server.knows_whole_shared = true;
  add_moe_decoder(
      writer, [&] { add_latent_attention(attention, writer); }, mlp, experts.routed, experts.shared);
}

void deepseek_v2(ModelWriter* writer) {
  deepseek(writer, "greedy", 1);
}

/// 8 groups are the default of transformers' class, which reads both families.
void deepseek_v3(ModelWriter* writer) {
  deepseek(writer, "noaux_tc", 8);
}

/// GLM-4.5 and 4.6.
void glm4_moe(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("attention_bias");
  attention.has_qk_norm = writer->config().flag("use_qk_norm");
  const Mlp mlp = read_mlp(writer);
  DeepSeekExperts experts = read_deepseek_experts(writer, 1);
  experts.routed.has_correction_bias = true;
  writer->model().server.has_fp32_router = true;
  writer->model().num_expert_groups = writer->config().count_or("n_group", Config::kExperts, 1);
  add_moe_decoder(
      writer, [&] { add_attention(attention, writer); }, mlp, experts.routed, experts.shared);
}

constexpr Family kFamilies[] = {
    {"qwen2_moe", qwen2_moe},     {"qwen3_moe", qwen3_moe}, {"mixtral", mixtral},   {"deepseek_v2", deepseek_v2},
    {"deepseek_v3", deepseek_v3}, {"kimi_k2", deepseek_v3}, {"glm4_moe", glm4_moe},
};

}  // namespace

std::span<const Family> moe_families() {
  return kFamilies;
}

}  // namespace reshard
