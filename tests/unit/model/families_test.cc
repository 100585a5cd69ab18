// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Published sizes, and the names and shapes that checkpoints use.

#include "src/model/families.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "memory.h"

namespace reshard {
namespace {

Model model_of(const std::string& config_json) {
  Result<Model> model = read_model(config_json);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? model.take() : Model();
}

struct Published {
  const char* model;
  std::int64_t num_parameters;
};

class PublishedSizeTest : public testing::TestWithParam<Published> {};

TEST_P(PublishedSizeTest, TotalIsThePublishedOne) {
  EXPECT_EQ(num_parameters(nlohmann::json::parse(published_config(GetParam().model))), GetParam().num_parameters);
}

// DeepSeek-V3 and Kimi-K2 without the multi-token-prediction layer and with e_score_correction_bias.
INSTANTIATE_TEST_SUITE_P(
    Models, PublishedSizeTest,
    testing::Values(Published{"Meta-Llama-3.1-8B", 8'030'261'248}, Published{"Meta-Llama-3.1-70B", 70'553'706'496},
                    Published{"Meta-Llama-3.1-405B", 405'853'388'800}, Published{"Qwen3-0.6B", 596'049'920},
                    Published{"Qwen3-8B", 8'190'735'360}, Published{"Qwen3-32B", 32'762'123'264},
                    Published{"Qwen3-30B-A3B", 30'532'122'624}, Published{"Qwen3-235B-A22B", 235'093'634'560},
                    Published{"Mixtral-8x7B-v0.1", 46'702'792'704}, Published{"DeepSeek-V3", 671'026'419'200},
                    Published{"Kimi-K2-Instruct", 1'026'408'232'448}),
    [](const auto& test) {
      std::string name = test.param.model;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
      return name;
    });

struct Expected {
  std::string name;
  std::vector<std::int64_t> shape;
  DType dtype = DType::kBF16;
};

void expect_params(const std::string& config_json, const std::vector<Expected>& expected) {
  const Model model = model_of(config_json);
  for (const Expected& wanted : expected) {
    const auto found = std::find_if(model.params.begin(), model.params.end(),
                                    [&](const Param& param) { return checkpoint_name(model, param) == wanted.name; });
    ASSERT_NE(found, model.params.end()) << wanted.name;
    EXPECT_EQ(shape_of(*found), wanted.shape) << wanted.name;
    EXPECT_EQ(found->dtype, wanted.dtype) << wanted.name;
  }
}

bool has_param(const std::string& config_json, const std::string& name) {
  const Model model = model_of(config_json);
  return std::any_of(model.params.begin(), model.params.end(),
                     [&](const Param& param) { return checkpoint_name(model, param) == name; });
}

TEST(FamilyTest, Qwen3HasHeadNormsAndNoOutputLayerOfItsOwnWhenTied) {
  const std::string config = published_config("Qwen3-0.6B");
  expect_params(config, {{"model.embed_tokens.weight", {151936, 1024}},
                         {"model.layers.27.self_attn.q_proj.weight", {2048, 1024}},
                         {"model.layers.27.self_attn.k_proj.weight", {1024, 1024}},
                         {"model.layers.27.self_attn.q_norm.weight", {128}},
                         {"model.layers.0.self_attn.o_proj.weight", {1024, 2048}},
                         {"model.layers.0.mlp.down_proj.weight", {1024, 3072}},
                         {"model.norm.weight", {1024}}});
  EXPECT_FALSE(has_param(config, "lm_head.weight"));
}

TEST(FamilyTest, RoutedExpertsAreOneTensorPerProjection) {
  expect_params(published_config("Qwen3-30B-A3B"), {{"model.layers.3.mlp.experts.gate_proj.weight", {128, 768, 2048}},
                                                    {"model.layers.3.mlp.experts.down_proj.weight", {128, 2048, 768}},
                                                    {"model.layers.3.mlp.gate.weight", {128, 2048}},
                                                    {"lm_head.weight", {151936, 2048}}});
  expect_params(published_config("Mixtral-8x7B-v0.1"),
                {{"model.layers.31.block_sparse_moe.experts.w1.weight", {8, 14336, 4096}},
                 {"model.layers.31.block_sparse_moe.experts.w3.weight", {8, 14336, 4096}},
                 {"model.layers.31.block_sparse_moe.experts.w2.weight", {8, 4096, 14336}},
                 {"model.layers.31.block_sparse_moe.gate.weight", {8, 4096}}});
}

TEST(FamilyTest, DeepSeekHasLatentAttentionDenseLayersAndSharedExperts) {
  const std::string config = published_config("DeepSeek-V3");
  expect_params(config, {{"model.layers.0.self_attn.q_a_proj.weight", {1536, 7168}},
                         {"model.layers.0.self_attn.q_a_layernorm.weight", {1536}},
                         {"model.layers.0.self_attn.q_b_proj.weight", {24576, 1536}},
                         {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {576, 7168}},
                         {"model.layers.0.self_attn.kv_a_layernorm.weight", {512}},
                         {"model.layers.0.self_attn.kv_b_proj.weight", {32768, 512}},
                         {"model.layers.0.self_attn.o_proj.weight", {7168, 16384}},
                         {"model.layers.2.mlp.gate_proj.weight", {18432, 7168}},
                         {"model.layers.3.mlp.gate.weight", {256, 7168}},
                         {"model.layers.3.mlp.gate.e_score_correction_bias", {256}, DType::kF32},
                         {"model.layers.60.mlp.experts.up_proj.weight", {256, 2048, 7168}},
                         {"model.layers.60.mlp.shared_experts.down_proj.weight", {7168, 2048}}});
  EXPECT_FALSE(has_param(config, "model.layers.2.mlp.gate.weight"));
  EXPECT_FALSE(has_param(config, "model.layers.3.mlp.gate_proj.weight"));
  EXPECT_FALSE(has_param(config, "model.layers.61.input_layernorm.weight"));
}

TEST(FamilyTest, QueriesWithoutLowRankAreProjectedInOneStep) {
  nlohmann::json config = tiny_deepseek();
  config.update({{"q_lora_rank", nullptr}, {"hidden_size", 64}, {"qk_nope_head_dim", 16}, {"qk_rope_head_dim", 8}});
  expect_params(config.dump(), {{"model.layers.0.self_attn.q_proj.weight", {4 * (16 + 8), 64}}});
  for (const char* suffix : {"q_a_proj.weight", "q_a_layernorm.weight", "q_b_proj.weight"}) {
    EXPECT_FALSE(has_param(config.dump(), in_layer(0, std::string("self_attn.") + suffix))) << suffix;
  }
}

TEST(FamilyTest, LayersBetweenThoseWithExpertsAreDense) {
  nlohmann::json config = tiny_deepseek();
  config.update({{"num_hidden_layers", 4}, {"first_k_dense_replace", 1}, {"moe_layer_freq", 2}});
  for (const std::int64_t layer : {0, 1, 3}) {
    EXPECT_TRUE(has_param(config.dump(), in_layer(layer, "mlp.gate_proj.weight"))) << layer;
    EXPECT_FALSE(has_param(config.dump(), in_layer(layer, "mlp.gate.weight"))) << layer;
  }
  EXPECT_TRUE(has_param(config.dump(), in_layer(2, "mlp.experts.gate_proj.weight")));
}

TEST(FamilyTest, SparseStepAndDenseLayersOfQwen3MoeAreHonoured) {
  nlohmann::json config = tiny_qwen3_moe();
  config.update({{"num_hidden_layers", 4}, {"decoder_sparse_step", 2}, {"mlp_only_layers", {3}}});
  EXPECT_TRUE(has_param(config.dump(), in_layer(0, "mlp.gate_proj.weight")));
  EXPECT_TRUE(has_param(config.dump(), in_layer(1, "mlp.experts.gate_proj.weight")));
  EXPECT_TRUE(has_param(config.dump(), in_layer(2, "mlp.gate_proj.weight")));
  EXPECT_TRUE(has_param(config.dump(), in_layer(3, "mlp.gate_proj.weight")));
}

TEST(FamilyTest, MoreElementsThanCanBeCountedAreRefused) {
  nlohmann::json config = tiny_qwen3_moe();
  config.update({{"num_hidden_layers", 4096},
                 {"hidden_size", 1 << 20},
                 {"num_experts", 1 << 14},
                 {"moe_intermediate_size", 1 << 20}});
  const Result<Model> model = read_model(config.dump());
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.status().message().find("2^60"), std::string::npos) << model.status().message();
}

}  // namespace
}  // namespace reshard
