// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Families whose layers differ in their attention: most have a linear one. How to add one stands in dense_families.cc.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "src/model/attention_variants.h"
#include "src/model/decoders.h"
#include "src/model/mtp.h"

namespace reshard {
namespace {

using Config = ConfigReader;

/// Qwen3-Next and Qwen3.5: linear attention in most layers, gated attention in the others.
struct QwenHybrid {
  GatedDeltaNet linear;
  Attention full;
  std::vector<bool> is_linear;  ///< by layer

  void add(std::int64_t layer, ModelWriter* writer) const {
    if (is_linear[static_cast<std::size_t>(layer)]) return add_gated_delta_net(linear, writer);
    add_attention(full, writer);
  }
};

/// Layers are as layer_types says; without it every fourth, or as many as full_attention_interval says, is full.
std::vector<bool> read_linear_layers(ModelWriter* writer) {
  Config& config = writer->config();
  std::vector<bool> is_linear(writer->num_config_layers());
  std::vector<bool> types = config.choices("layer_types", is_linear.size(), "linear_attention", "full_attention");
  if (!types.empty()) return types;
  const auto interval = static_cast<std::size_t>(config.count_or("full_attention_interval", Config::kLayers, 4));
  for (std::size_t layer = 0; layer < is_linear.size(); ++layer) is_linear[layer] = (layer + 1) % interval != 0;
  return is_linear;
}

QwenHybrid read_qwen_hybrid(ModelWriter* writer) {
  QwenHybrid hybrid;
  hybrid.linear = read_gated_delta_net(writer);
  hybrid.full = read_qwen3_attention(writer);
  hybrid.full.is_qkv_bias_served = false;
  hybrid.full.has_output_gate = true;
  hybrid.is_linear = read_linear_layers(writer);
  writer->model().server.knows_whole_shared = true;
  return hybrid;
}

/// Layers for multi-token prediction have full attention.
void add_mtp_layers(const QwenHybrid& hybrid, std::int64_t num_unless_told, const AddToLayer& ffn,
                    ModelWriter* writer) {
  add_mtp_layers(
      MtpForm::kQwen, num_unless_told, [&] { add_attention(hybrid.full, writer); }, ffn, writer);
}

/// vLLM makes these on every pipeline stage.
void repeat_on_servers(std::initializer_list<std::string_view> roles, ModelWriter* writer) {
  for (Param& param : writer->model().params) {
    if (std::find(roles.begin(), roles.end(), param.role) != roles.end()) param.is_on_every_server_stage = true;
  }
}

void qwen3_next(ModelWriter* writer) {
  QwenHybrid hybrid = read_qwen_hybrid(writer);
  hybrid.linear.is_interleaved = true;
  MoeFfn ffn = read_qwen_ffn(writer);
  read_qwen_shared(&ffn, writer);
  const auto add_ffn = [&](std::int64_t layer) { add_moe_ffn(ffn, layer, writer); };
  add_decoder(
      writer, [&](std::int64_t layer) { hybrid.add(layer, writer); }, add_ffn);
  // One, of which published configs do not speak.
  add_mtp_layers(hybrid, 1, add_ffn, writer);
  repeat_on_servers({"embedding", "output"}, writer);
}

void add_qwen3_5(const QwenHybrid& hybrid, const AddToLayer& ffn, ModelWriter* writer) {
  add_decoder(
      writer, [&](std::int64_t layer) { hybrid.add(layer, writer); }, ffn);
  add_mtp_layers(hybrid, 0, ffn, writer);
  repeat_on_servers({"embedding"}, writer);
}

void qwen3_5_text(ModelWriter* writer) {
  const QwenHybrid hybrid = read_qwen_hybrid(writer);
  const Mlp mlp = read_mlp(writer);
  add_qwen3_5(
      hybrid, [&](std::int64_t) { add_mlp(mlp, writer); }, writer);
}

void qwen3_5_moe_text(ModelWriter* writer) {
  const QwenHybrid hybrid = read_qwen_hybrid(writer);
  MoeFfn ffn = read_qwen_ffn(writer);
  read_qwen_shared(&ffn, writer);
  add_qwen3_5(
      hybrid, [&](std::int64_t layer) { add_moe_ffn(ffn, layer, writer); }, writer);
}

/// Which layers of Kimi-Linear have its linear attention. The lists of published configs count layers from 1.
std::vector<bool> read_kda_layers(ModelWriter* writer) {
  Config& config = writer->config();
  const std::size_t num_layers = writer->num_config_layers();
  if (config.has("layer_types")) {
    return config.choices("layer_types", num_layers, "linear_attention", "full_attention");
  }
  std::vector<int> times(num_layers, 0);
  std::vector<bool> is_linear(num_layers, false);
  for (const char* key : {"linear_attn_config.kda_layers", "linear_attn_config.full_attn_layers"}) {
    for (const std::int64_t layer : config.counts(key, Config::kLayers)) {
      if (layer < 1 || static_cast<std::size_t>(layer) > num_layers) continue;
      ++times[static_cast<std::size_t>(layer) - 1];
      is_linear[static_cast<std::size_t>(layer) - 1] = key[19] == 'k';
    }
  }
  for (std::size_t layer = 0; layer < num_layers; ++layer) {
    if (times[layer] == 1) continue;
    config.fail(invalid_argument(
        fmt::format("config: layer {} is {} of kda_layers and full_attn_layers of linear_attn_config, which count from "
                    "1; give it in one",
                    layer + 1, times[layer] == 0 ? "in neither" : "more than once in")));
  }
  return is_linear;
}

void kimi_linear(ModelWriter* writer) {
  const KimiDeltaAttention linear = read_kimi_delta_attention(writer);
  const std::vector<bool> is_linear = read_kda_layers(writer);
  const LatentAttention full = read_latent_attention(writer);
  MoeFfn ffn = read_deepseek_ffn(writer, 1);
  ffn.routed.prefix = "block_sparse_moe";
  ffn.routed.gate = "w1";
  ffn.routed.up = "w3";
  ffn.routed.down = "w2";
  ffn.routed.has_correction_bias = true;
  ffn.routed.has_fp32_correction = false;
  ffn.shared.prefix = "block_sparse_moe.shared_experts";
  // vLLM treats dense layers as it does shared experts.
  ffn.dense.part = Part::kSharedExperts;
  ServerHabits& server = writer->model().server;
  server.knows_whole_shared = server.is_whole_on_one_stage = true;
  server.balances_experts = false;
  server.least_expert_width = writer->config().count_or("min_moe_intermediate_per_partition", Config::kWidth, 256);
  writer->model().megatron_lacks = "Kimi's delta attention";
  const auto add = [&](std::int64_t layer) {
    if (is_linear[static_cast<std::size_t>(layer)]) return add_kimi_delta_attention(linear, writer);
    add_latent_attention(full, writer);
  };
  add_moe_decoder(writer, add, ffn);
}

constexpr Family kHybridFamilies[] = {
    {"qwen3_next", qwen3_next},
    {"qwen3_5_text", qwen3_5_text},
    {"qwen3_5_moe_text", qwen3_5_moe_text},
    {"kimi_linear", kimi_linear},
};

}  // namespace

std::span<const Family> hybrid_families() {
  return kHybridFamilies;
}

}  // namespace reshard
