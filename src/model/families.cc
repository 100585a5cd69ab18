// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A family is a function that writes down its parameters in the order of a forward pass, and a row in the table at the
// end. To add one: read what its config.json has with writer->config(), put its layer together from the modules of
// modules.h, add the row. What no module covers is a few writer->linear() and writer->add() here, or a module of its
// own there; nothing else knows a family.
#include "src/model/families.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "src/model/json_text.h"
#include "src/model/modules.h"

namespace reshard {
namespace {

using Config = ConfigReader;

/// A decoder whose layers are norm, attention, norm, MLP or experts: most of them.
void decoder(ModelWriter* writer, const std::function<void()>& attention,
             const std::function<void(std::int64_t layer)>& ffn) {
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t layer) {
    writer->norm("attention_norm", "input_layernorm");
    attention();
    writer->norm("mlp_norm", "post_attention_layernorm");
    ffn(layer);
  });
  writer->norm("final_norm", "model.norm");
  writer->output();
}

/// A decoder with one kind of attention, and dense MLPs except where the model's is_moe says experts.
void decoder(ModelWriter* writer, const Attention& attention, const Mlp& mlp, const Experts& experts) {
  decoder(
      writer, [&] { add_attention(attention, writer); },
      [&](std::int64_t layer) {
        if (writer->model().is_moe[static_cast<std::size_t>(layer)]) {
          add_experts(experts, writer);
        } else {
          add_mlp(mlp, writer);
        }
      });
}

Mlp read_mlp(ModelWriter* writer) {
  Mlp mlp;
  mlp.width = writer->config().count("intermediate_size", Config::kWidth);
  return mlp;
}

void llama(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  Mlp mlp = read_mlp(writer);
  mlp.has_bias = writer->config().flag("mlp_bias");
  decoder(writer, attention, mlp, {});
}

/// Queries and keys have norms; head_dim's default is not hidden size / heads but a number that differs between
/// releases: insist on it.
Attention read_qwen3_attention(ModelWriter* writer) {
  writer->config().count("head_dim", Config::kWidth);
  Attention attention = read_attention(writer);
  attention.has_qk_norm = true;
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  attention.is_output_bias_served = false;
  return attention;
}

void qwen3(ModelWriter* writer) {
  decoder(writer, read_qwen3_attention(writer), read_mlp(writer), {});
}

void qwen3_moe(ModelWriter* writer) {
  Config& config = writer->config();
  const Attention attention = read_qwen3_attention(writer);
  const Mlp mlp = read_mlp(writer);
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
  decoder(writer, attention, mlp, experts);
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
  decoder(writer, attention, {}, experts);
}

/// Also Kimi-K2, which is the same architecture. num_nextn_predict_layers is not looked at: the multi-token-prediction
/// layer behind the last one belongs neither to the published 671B nor to the model that a server loads.
void deepseek_v3(ModelWriter* writer) {
  Config& config = writer->config();
  Model& model = writer->model();
  LatentAttention attention = read_latent_attention(writer);
  attention.has_bias = config.flag("attention_bias");
  const Mlp mlp = read_mlp(writer);
  Experts experts;
  experts.count = config.count("n_routed_experts", Config::kExperts);
  experts.width = config.count("moe_intermediate_size", Config::kWidth);
  // The bias of the router is there with the selection of DeepSeek-V3 ("noaux_tc"), which is the default. A config that
  // names the method is what makes vLLM allocate it.
  experts.has_correction_bias = config.word("topk_method", "noaux_tc") == "noaux_tc";
  experts.is_correction_served = config.has("topk_method");
  Mlp shared;
  shared.prefix = "mlp.shared_experts";
  shared.width = config.count_or("n_shared_experts", Config::kExperts, 0, 0) * experts.width;
  shared.part = Part::kSharedExperts;
  const auto num_dense = static_cast<std::size_t>(config.count_or("first_k_dense_replace", Config::kLayers, 0, 0));
  const auto frequency = static_cast<std::size_t>(config.count_or("moe_layer_freq", Config::kLayers, 1));
  for (std::size_t layer = num_dense; layer < model.is_moe.size(); ++layer) {
    model.is_moe[layer] = layer % frequency == 0;
  }
  model.num_experts = experts.count;
  // 8 is the default of transformers' class, which reads both families.
  model.num_expert_groups = config.count_or("n_group", Config::kExperts, config.is_null("n_group") ? 0 : 8);
  model.server = {.never_ties = true, .knows_whole_shared = true};
  decoder(
      writer, [&] { add_latent_attention(attention, writer); },
      [&](std::int64_t layer) {
        if (!model.is_moe[static_cast<std::size_t>(layer)]) return add_mlp(mlp, writer);
        add_experts(experts, writer);
        if (shared.width > 0) add_mlp(shared, writer);
      });
}

constexpr std::array kFamilies = {
    Family{"llama", llama},
    Family{"qwen3", qwen3},
    Family{"qwen3_moe", qwen3_moe},
    Family{"mixtral", mixtral},
    Family{"deepseek_v3", deepseek_v3},
    Family{"kimi_k2", deepseek_v3},
};

Status unknown_family(const ConfigReader& config, std::span<const Family> families) {
  std::string known;
  for (const Family& family : families) known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  // A model of several parts names its tensors by part, so that its text_config alone would not describe them.
  const std::string parts =
      config.has("text_config") ? ", which has parts beside text (text_config); such are not known" : "";
  return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("config: model_type is {}{}; the known ones are {}",
                                                 describe(*config.find("model_type")), parts, known)};
}

}  // namespace

std::span<const Family> known_families() {
  return kFamilies;
}

Result<Model> read_model(const std::string& config_json, const ModelReadOptions& options,
                         std::span<const Family> families) {
  RESHARD_TRY(ConfigReader config, ConfigReader::parse(config_json));
  if (!config.has("model_type")) return invalid_argument("config: model_type is missing");
  const std::string model_type = config.word("model_type", "");
  RESHARD_TRY(config.status());
  const auto family =
      std::find_if(families.begin(), families.end(), [&](const Family& f) { return f.model_type == model_type; });
  if (family == families.end()) return unknown_family(config, families);
  ModelWriter writer(&config, options);
  // A fault found so far would only be hidden by the values that stand in for faulty ones.
  RESHARD_TRY(config.status());
  family->describe(&writer);
  writer.model().model_type = model_type;
  return std::move(writer).take();
}

}  // namespace reshard
