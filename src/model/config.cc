// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reads config.json into a ModelConfig. A family is one function that reads what only it has; everything else is
// common. What a key defaults to is taken from the class that transformers has for the family, and never guessed: where
// releases disagree, or where a default would change a shape without a word, the key is required.
#include "src/model/config.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "src/model/json_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

// Far above every published model, and small enough that no product of a few of them leaves 64 bits and that a
// mistyped value cannot ask for gigabytes of layout.
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeads = 1 << 14;
constexpr std::int64_t kMaxExperts = 1 << 14;
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxVocab = 1 << 26;

/// The value as a message shows it; lists and objects by their kind only, for dump() recurses as deep as they do.
std::string text_of(const Json& value) {
  if (value.is_structured()) return value.type_name();
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

Status bad_value(std::string_view key, const Json& value, const std::string& expected) {
  return invalid_argument(fmt::format("config: {} is {}, expected {}", key, text_of(value), expected));
}

/// A JSON object whose values are read with their ranges checked. A null counts as absent, as in Hugging Face configs.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {}

  /// The value, or nullptr when it is absent or null.
  const Json* find(std::string_view key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  /// Whether the key is there with the value null.
  bool is_null(std::string_view key) const {
    const auto it = object_.find(key);
    return it != object_.end() && it->is_null();
  }

  /// Reads an integer of [min, max] into *value.
  Status integer(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t* value) const {
    if (find(key) == nullptr) return invalid_argument(fmt::format("config: {} is missing", key));
    return optional_integer(key, min, max, value);
  }

  /// The same; an absent key leaves *value as it is.
  Status optional_integer(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t* value) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    // Asked as a double first: an unsigned number above 2^63 would wrap round on conversion.
    const bool fits = found->is_number_integer() && found->get<double>() >= static_cast<double>(min) &&
                      found->get<double>() <= static_cast<double>(max);
    if (!fits) return bad_value(key, *found, fmt::format("an integer from {} to {}", min, max));
    *value = found->get<std::int64_t>();
    return {};
  }

  Status optional_bool(std::string_view key, bool* value) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    if (!found->is_boolean()) return bad_value(key, *found, "true or false");
    *value = found->get<bool>();
    return {};
  }

  Status optional_string(std::string_view key, std::string* value) const {
    const Json* found = find(key);
    if (found == nullptr) return {};
    if (!found->is_string()) return bad_value(key, *found, "a string");
    *value = found->get<std::string>();
    return {};
  }

 private:
  const Json& object_;
};

/// Refuses an option that gives the family more parameters than are listed here.
Status refuse_if_set(const Reader& config, std::string_view key) {
  bool value = false;
  RESHARD_TRY(config.optional_bool(key, &value));
  if (!value) return {};
  return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("config: {} is true; models with biases are not supported", key)};
}

/// The type of the weights as trained. quantization_config is not looked at on purpose: it describes a published copy
/// (DeepSeek-V3 in fp8), while a trainer holds and sends torch_dtype and the server quantises after arrival.
Status read_dtype(const Reader& config, DType* dtype) {
  // transformers 5 writes dtype where 4 wrote torch_dtype; of both the newer one counts there, as here.
  const char* key = config.find("dtype") != nullptr ? "dtype" : "torch_dtype";
  std::string name = "bfloat16";
  RESHARD_TRY(config.optional_string(key, &name));
  if (name == "bfloat16") {
    *dtype = DType::kBF16;
  } else if (name == "float16") {
    *dtype = DType::kF16;
  } else if (name == "float32") {
    *dtype = DType::kF32;
  } else {
    return bad_value(key, Json(name), "bfloat16, float16 or float32");
  }
  return {};
}

Status read_common(const Reader& config, std::int64_t num_layers, ModelConfig* model) {
  RESHARD_TRY(config.integer("num_hidden_layers", 1, kMaxLayers, &model->num_layers));
  if (num_layers < 0 || num_layers > model->num_layers) {
    return invalid_argument(fmt::format("cannot keep {} layers of num_hidden_layers = {}; give 1 to {}, or 0 for all",
                                        num_layers, model->num_layers, model->num_layers));
  }
  // By layer of the whole model, also where only the first num_layers are kept: rows of expert maps, and lists of dense
  // layers, count the layers that config.json has.
  model->is_moe.assign(static_cast<std::size_t>(model->num_layers), false);
  if (num_layers > 0) model->num_layers = num_layers;
  RESHARD_TRY(config.integer("hidden_size", 1, kMaxWidth, &model->hidden_size));
  RESHARD_TRY(config.integer("vocab_size", 1, kMaxVocab, &model->vocab_size));
  RESHARD_TRY(config.integer("num_attention_heads", 1, kMaxHeads, &model->num_heads));
  RESHARD_TRY(config.integer("intermediate_size", 1, kMaxWidth, &model->ffn_size));
  // Absent means false in every family here, although true is the default of the class they derive from.
  RESHARD_TRY(config.optional_bool("tie_word_embeddings", &model->tie_embeddings));
  RESHARD_TRY(refuse_if_set(config, "attention_bias"));
  RESHARD_TRY(refuse_if_set(config, "mlp_bias"));
  return read_dtype(config, &model->dtype);
}

Status read_grouped_query_attention(const Reader& config, ModelConfig* model) {
  model->num_kv_heads = model->num_heads;
  RESHARD_TRY(config.optional_integer("num_key_value_heads", 1, kMaxHeads, &model->num_kv_heads));
  if (model->num_heads % model->num_kv_heads != 0) {
    return invalid_argument(fmt::format("config: num_key_value_heads = {} does not divide num_attention_heads = {}",
                                        model->num_kv_heads, model->num_heads));
  }
  if (config.find("head_dim") != nullptr) return config.integer("head_dim", 1, kMaxWidth, &model->head_dim);
  if (model->hidden_size % model->num_heads != 0) {
    return invalid_argument(
        fmt::format("config: num_attention_heads = {} does not divide hidden_size = {}; give head_dim",
                    model->num_heads, model->hidden_size));
  }
  model->head_dim = model->hidden_size / model->num_heads;
  return {};
}

Status read_llama(const Reader& config, ModelConfig* model) {
  return read_grouped_query_attention(config, model);
}

Status read_qwen3(const Reader& config, ModelConfig* model) {
  model->qk_norm = true;
  // Its default is not hidden_size / num_attention_heads but a number that differs between releases: insist on it.
  RESHARD_TRY(config.integer("head_dim", 1, kMaxWidth, &model->head_dim));
  return read_grouped_query_attention(config, model);
}

Status read_mlp_only_layers(const Reader& config, ModelConfig* model) {
  const Json* layers = config.find("mlp_only_layers");
  if (layers == nullptr) return {};
  if (!layers->is_array()) return bad_value("mlp_only_layers", *layers, "a list of layer numbers");
  for (const Json& layer : *layers) {
    const bool fits = layer.is_number_unsigned() && layer.get<std::uint64_t>() < static_cast<std::uint64_t>(kMaxLayers);
    if (!fits) return bad_value("mlp_only_layers", layer, "layer numbers");
    const auto index = layer.get<std::size_t>();
    if (index < model->is_moe.size()) model->is_moe[index] = false;
  }
  return {};
}

/// transformers 5 writes num_local_experts where 4 wrote num_experts.
Status read_num_experts(const Reader& config, ModelConfig* model) {
  if (config.find("num_local_experts") == nullptr) {
    return config.integer("num_experts", 1, kMaxExperts, &model->num_experts);
  }
  RESHARD_TRY(config.integer("num_local_experts", 1, kMaxExperts, &model->num_experts));
  std::int64_t older = model->num_experts;
  RESHARD_TRY(config.optional_integer("num_experts", 1, kMaxExperts, &older));
  if (older == model->num_experts) return {};
  return invalid_argument(fmt::format("config: num_experts is {}, but num_local_experts is {}; give one of them", older,
                                      model->num_experts));
}

Status read_qwen3_moe(const Reader& config, ModelConfig* model) {
  RESHARD_TRY(read_qwen3(config, model));
  RESHARD_TRY(read_num_experts(config, model));
  RESHARD_TRY(config.integer("moe_intermediate_size", 1, kMaxWidth, &model->expert_ffn_size));
  std::int64_t step = 1;
  RESHARD_TRY(config.optional_integer("decoder_sparse_step", 1, kMaxLayers, &step));
  for (std::size_t layer = 0; layer < model->is_moe.size(); ++layer) {
    // Counted from 1: with step 2 the layers 1, 3, 5 have experts. DeepSeek's frequency, below, counts from 0.
    model->is_moe[layer] = (layer + 1) % static_cast<std::size_t>(step) == 0;
  }
  return read_mlp_only_layers(config, model);
}

Status read_mixtral(const Reader& config, ModelConfig* model) {
  RESHARD_TRY(read_grouped_query_attention(config, model));
  RESHARD_TRY(config.integer("num_local_experts", 1, kMaxExperts, &model->num_experts));
  // Every layer has experts, and intermediate_size is the width of one of them.
  model->expert_ffn_size = model->ffn_size;
  model->has_mixtral_expert_names = true;
  model->is_moe.assign(model->is_moe.size(), true);
  return {};
}

Status read_latent_attention(const Reader& config, ModelConfig* model) {
  LatentAttention& latent = model->latent;
  model->has_latent_attention = true;
  // A key that is there and null says that there is no low rank; an absent one stands for a default that we do not
  // know.
  if (!config.is_null("q_lora_rank")) RESHARD_TRY(config.integer("q_lora_rank", 1, kMaxWidth, &latent.q_rank));
  RESHARD_TRY(config.integer("kv_lora_rank", 1, kMaxWidth, &latent.kv_rank));
  RESHARD_TRY(config.integer("qk_nope_head_dim", 1, kMaxWidth, &latent.nope_dim));
  RESHARD_TRY(config.integer("qk_rope_head_dim", 1, kMaxWidth, &latent.rope_dim));
  return config.integer("v_head_dim", 1, kMaxWidth, &latent.v_dim);
}

/// Also Kimi-K2, which is the same architecture. num_nextn_predict_layers is not looked at: the multi-token-prediction
/// layer behind the last one belongs neither to the published 671B nor to the model that a server loads.
Status read_deepseek_v3(const Reader& config, ModelConfig* model) {
  RESHARD_TRY(read_latent_attention(config, model));
  RESHARD_TRY(config.integer("n_routed_experts", 1, kMaxExperts, &model->num_experts));
  RESHARD_TRY(config.integer("moe_intermediate_size", 1, kMaxWidth, &model->expert_ffn_size));
  std::int64_t num_shared = 0, num_dense = 0, frequency = 1;
  RESHARD_TRY(config.optional_integer("n_shared_experts", 0, kMaxExperts, &num_shared));
  RESHARD_TRY(config.optional_integer("first_k_dense_replace", 0, kMaxLayers, &num_dense));
  RESHARD_TRY(config.optional_integer("moe_layer_freq", 1, kMaxLayers, &frequency));
  // The shared experts are one MLP of their summed width, in the checkpoint and in every framework.
  model->shared_ffn_size = num_shared * model->expert_ffn_size;
  for (auto layer = static_cast<std::size_t>(num_dense); layer < model->is_moe.size(); ++layer) {
    model->is_moe[layer] = layer % static_cast<std::size_t>(frequency) == 0;
  }
  // 8 is the default of transformers' class, which reads both families.
  model->num_expert_groups = config.is_null("n_group") ? 0 : 8;
  RESHARD_TRY(config.optional_integer("n_group", 1, kMaxExperts, &model->num_expert_groups));
  std::string topk_method = "noaux_tc";
  RESHARD_TRY(config.optional_string("topk_method", &topk_method));
  // The bias of the router is there with the selection of DeepSeek-V3 ("noaux_tc"), which is the default. A config that
  // names the method is what makes vLLM allocate it, hence the second flag.
  model->has_correction_bias = topk_method == "noaux_tc";
  model->names_correction_bias = model->has_correction_bias && config.find("topk_method") != nullptr;
  return {};
}

struct FamilyReader {
  std::string_view model_type;
  Status (*read)(const Reader&, ModelConfig*);
};

constexpr std::array kFamilies = {
    FamilyReader{"llama", read_llama},
    FamilyReader{"qwen3", read_qwen3},
    FamilyReader{"qwen3_moe", read_qwen3_moe},
    FamilyReader{"mixtral", read_mixtral},
    FamilyReader{"deepseek_v3", read_deepseek_v3},
    FamilyReader{"kimi_k2", read_deepseek_v3},
};

Status unknown_family(const Reader& config) {
  std::string known;
  for (const FamilyReader& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  // A model of several parts names its tensors by part, so that its text_config alone would not describe them.
  const std::string parts =
      config.find("text_config") == nullptr ? "" : ", which has parts beside text (text_config); such are not known";
  return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("config: model_type is {}{}; the known ones are {}",
                                                 text_of(*config.find("model_type")), parts, known)};
}

}  // namespace

Result<ModelConfig> parse_model_config(const std::string& config_json, std::int64_t num_layers) {
  Result<Json> parsed = parse_json(config_json);
  if (!parsed.ok()) return parsed.take_status().with_context("config");
  const Json json = parsed.take();
  if (!json.is_object()) return bad_value("the text", json, "a JSON object");
  const Reader config(json);
  ModelConfig model;
  if (config.find("model_type") == nullptr) return invalid_argument("config: model_type is missing");
  RESHARD_TRY(config.optional_string("model_type", &model.model_type));
  for (const FamilyReader& family : kFamilies) {
    if (family.model_type != model.model_type) continue;
    RESHARD_TRY(read_common(config, num_layers, &model));
    RESHARD_TRY(family.read(config, &model));
    return model;
  }
  return unknown_family(config);
}

}  // namespace reshard
