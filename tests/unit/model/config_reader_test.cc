// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/config_reader.h"

#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/families.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

Status status_of(const Json& config) {
  Result<Model> parsed = read_model(config.dump());
  return parsed.ok() ? Status() : parsed.take_status();
}

void expect_message(const Status& status, reshard_status_t code, const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), code) << status.message();
  for (const std::string& word : words) EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
}

TEST(ConfigTest, TextThatIsNotAnObjectIsRefused) {
  for (const char* text : {"", "{", "[1, 2]", "7", "null", "\"llama\"", "{\"hidden_size\": 1e999}", "{} {}"}) {
    const Result<Model> parsed = read_model(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), RESHARD_ERR_INVALID_ARGUMENT) << text;
  }
}

TEST(ConfigTest, AnotherFamilyIsRefusedWithTheKnownOnes) {
  Json config = tiny_llama();
  config["model_type"] = "xlstm";
  expect_message(status_of(config), RESHARD_ERR_NOT_SUPPORTED, {"xlstm", "llama", "kimi_k2"});
  config.erase("model_type");
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"model_type is missing"});
}

TEST(ConfigTest, EachRequiredKeyIsNamedWhenMissing) {
  for (const char* key : {"num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "intermediate_size",
                          "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
                          "n_routed_experts", "moe_intermediate_size"}) {
    Json config = tiny_deepseek();
    config.erase(key);
    expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {std::string(key) + " is missing"});
  }
  for (const char* key : {"head_dim", "num_experts"}) {
    Json config = tiny_qwen3_moe();
    config.erase(key);
    expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {std::string(key) + " is missing"});
  }
}

TEST(ConfigTest, ValuesOutOfRangeAreNamedWithTheirKey) {
  const std::vector<Json> bad = {0, -1, "8", 2.5, true, 18446744073709551615ULL, 9223372036854775807LL};
  for (const Json& value : bad) {
    Json config = tiny_llama();
    config["hidden_size"] = value;
    expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"hidden_size is " + value.dump()});
  }
  Json config = tiny_llama();
  config["torch_dtype"] = "int4";
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"torch_dtype", "int4"});
  config = tiny_llama();
  config["tie_word_embeddings"] = 1;
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"tie_word_embeddings is 1"});
  config = tiny_qwen3_moe();
  config["mlp_only_layers"] = {0, -1};
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"mlp_only_layers is -1"});
}

TEST(ConfigTest, ValuesThatContradictEachOtherAreNamed) {
  Json config = tiny_llama();
  config["num_key_value_heads"] = 3;
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"num_key_value_heads = 3", "= 8"});
  config = tiny_llama();
  config.erase("head_dim");
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"num_attention_heads = 8", "hidden_size = 2"});
}

TEST(ConfigTest, WeightsHaveTheTrainersTypeWhateverTheQuantisation) {
  Json config = tiny_llama();
  config["quantization_config"] = {{"quant_method", "fp8"}};
  EXPECT_EQ(read_model(config.dump())->dtype, DType::kBF16);
  config["torch_dtype"] = "float32";
  EXPECT_EQ(read_model(config.dump())->dtype, DType::kF32);
  config.erase("torch_dtype");
  config["dtype"] = "float16";
  EXPECT_EQ(read_model(config.dump())->dtype, DType::kF16);
  config.erase("dtype");
  EXPECT_EQ(read_model(config.dump())->dtype, DType::kBF16);
}

TEST(ConfigTest, NewerSpellingsOfTransformersAreRead) {
  Json config = tiny_qwen3_moe();
  config.erase("num_experts");
  config["num_local_experts"] = 4;
  EXPECT_EQ(read_model(config.dump())->num_experts, 4);
  config["num_experts"] = 4;
  EXPECT_EQ(read_model(config.dump())->num_experts, 4);
  config["num_experts"] = 8;
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"num_experts is 8", "num_local_experts is 4"});
  config = tiny_llama();  // of both, transformers 5 takes dtype
  config["dtype"] = "float32";
  EXPECT_EQ(read_model(config.dump())->dtype, DType::kF32);
  config["dtype"] = "int4";
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"dtype", "int4"});
}

TEST(ConfigTest, NullLowRankOfQueriesIsNone) {
  Json config = tiny_deepseek();
  config["q_lora_rank"] = nullptr;
  EXPECT_EQ(status_of(config).code(), RESHARD_OK);
  config["q_lora_rank"] = 0;
  expect_message(status_of(config), RESHARD_ERR_INVALID_ARGUMENT, {"q_lora_rank is 0"});
}

TEST(ConfigTest, ModelsOfSeveralPartsAreRefusedByName) {
  const Json config = {{"model_type", "llava"},
                       {"text_config", {{"model_type", "llama"}, {"num_hidden_layers", 2}}},
                       {"vision_config", {{"depth", 2}}}};
  expect_message(status_of(config), RESHARD_ERR_NOT_SUPPORTED, {"llava", "text_config", "llama, mistral"});
}

TEST(ConfigTest, BrokenJsonIsToldByLineAndColumn) {
  const Result<Model> parsed = read_model("{\n  \"hidden_size\": 2,\n}");
  ASSERT_FALSE(parsed.ok());
  expect_message(parsed.status(), RESHARD_ERR_INVALID_ARGUMENT, {"config", "line 3", "column 1"});
  EXPECT_EQ(parsed.status().message().find("json.exception"), std::string::npos) << parsed.status().message();
}

TEST(ConfigTest, LayersBetweenThoseWithExpertsAreDense) {
  Json config = tiny_deepseek();  // layers from first_k_dense_replace on whose number moe_layer_freq divides
  config.update({{"num_hidden_layers", 8}, {"first_k_dense_replace", 3}, {"moe_layer_freq", 2}});
  EXPECT_EQ(read_model(config.dump())->is_moe,
            (std::vector<bool>{false, false, false, false, true, false, true, false}));
}

TEST(ConfigTest, NullCountsAsAbsent) {
  Json config = tiny_deepseek();
  config["n_shared_experts"] = nullptr;
  const Result<Model> model = read_model(config.dump());
  ASSERT_TRUE(model.ok()) << model.status().message();
  for (const Param& param : model->params) EXPECT_NE(param.part, Part::kSharedExperts) << param.stem;
}

TEST(ConfigTest, OnlyTheFirstLayersAreKept) {
  const std::string config = tiny_deepseek().dump();
  EXPECT_EQ(read_model(config, {.num_layers = 2})->num_layers, 2);
  EXPECT_EQ(read_model(config, {.num_layers = 2})->is_moe, (std::vector<bool>{false, true, true}))
      << "of the whole model";
  for (const std::int64_t num_layers : {-1, 4}) {
    const Result<Model> parsed = read_model(config, {.num_layers = num_layers});
    ASSERT_FALSE(parsed.ok());
    EXPECT_NE(parsed.status().message().find("num_hidden_layers = 3"), std::string::npos);
  }
}

}  // namespace
}  // namespace reshard
