// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// quant= and dtype= of layout texts: what a quantised server holds, under vLLM's names.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;

std::string deepseek() {
  std::ifstream file(std::string(RESHARD_SOURCE_DIR) + "/perf/models/DeepSeek-V3.json");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Three dense layers and one with experts.
ModelLayout quantised(const std::string& text) {
  Result<ModelLayout> layout = make_model_layout(deepseek(), text, {.num_layers = 4});
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return layout.ok() ? layout.take() : ModelLayout(1);
}

std::string refusal(const std::string& text, const ModelLayoutOptions& options = {.num_layers = 4}) {
  const Result<ModelLayout> layout = make_model_layout(deepseek(), text, options);
  EXPECT_FALSE(layout.ok()) << text;
  EXPECT_EQ(layout.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(layout.status().message(), HasSubstr("\"" + text + "\""));
  return layout.status().message();
}

const Tensor& tensor(const ModelLayout& layout, const std::string& name) {
  const std::int64_t id = layout.find_tensor(name);
  EXPECT_GE(id, 0) << name;
  return at(layout.tensors(), std::max<std::int64_t>(0, id));
}

/// Bytes of the buffer of this name on a rank; -1 where there is none.
std::int64_t bytes_of(const ModelLayout& layout, std::int32_t rank, const std::string& name) {
  for (const std::int64_t buffer : layout.buffers_of(rank)) {
    if (at(layout.buffers(), buffer).name == name) return layout.buffer_size_bytes(rank, buffer);
  }
  return -1;
}

TEST(QuantisedTextTest, LinearWeightsBecomeEightBitFloatsAndOthersStay) {
  const ModelLayout layout = quantised("vllm:tp=2,dtype=f8_e4m3,quant=block128");
  EXPECT_EQ(tensor(layout, "model.layers.3.self_attn.o_proj.weight").dtype, DType::kF8E4M3);
  EXPECT_EQ(tensor(layout, "model.layers.3.mlp.experts.down_proj.weight").dtype, DType::kF8E4M3);
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.layers.3.input_layernorm.weight",
                           "model.layers.3.mlp.gate.weight"}) {
    EXPECT_EQ(tensor(layout, name).dtype, DType::kBF16) << name;
  }
  const std::int64_t weight = layout.find_tensor("model.layers.3.mlp.experts.down_proj.weight");
  const Scales& scales = layout.scales(weight);
  EXPECT_EQ(scales.kind, ScaleKind::kBlock128);
  EXPECT_EQ(at(layout.tensors(), scales.tensor).name, "model.layers.3.mlp.experts.down_proj.weight_scale_inv");
  EXPECT_EQ(at(layout.tensors(), scales.tensor).shape, (std::vector<std::int64_t>{256, 56, 16}));
}

/// What vLLM's own parameters of DeepSeek-V3 have: one scale for each block of the fused weight.
TEST(QuantisedTextTest, ScalesAreFusedAsVllmFusesThem) {
  const ModelLayout layout = quantised("vllm:tp=2,quant=block128");
  const std::string attention = "model.layers.3.self_attn.";
  EXPECT_EQ(bytes_of(layout, 1, attention + "fused_qkv_a_proj.weight_scale_inv"), 17 * 56 * 4) << "(1536 + 576) rows";
  EXPECT_EQ(bytes_of(layout, 1, attention + "o_proj.weight_scale_inv"), 56 * 64 * 4) << "16384 / 2 columns";
  EXPECT_EQ(bytes_of(layout, 1, "model.layers.0.mlp.gate_up_proj.weight_scale_inv"), 2 * 72 * 56 * 4);
  EXPECT_EQ(bytes_of(layout, 1, "model.layers.3.mlp.experts.routed_experts.w13_weight_scale_inv"), 256 * 16 * 56 * 4);
  EXPECT_EQ(bytes_of(layout, 1, "model.layers.3.mlp.experts.routed_experts.w2_weight_scale_inv"), 256 * 56 * 8 * 4);
}

TEST(QuantisedTextTest, OtherKindsHaveScalesOfTheirOwn) {
  const ModelLayout mx = quantised("vllm:tp=2,quant=mxfp8");
  EXPECT_EQ(bytes_of(mx, 0, "model.layers.0.mlp.down_proj.weight_scale"), 7168 * 288);
  const ModelLayout channel = quantised("checkpoint:quant=channel");
  EXPECT_EQ(bytes_of(channel, 0, "model.layers.0.mlp.down_proj.weight_scale"), 7168 * 4);
}

TEST(QuantisedTextTest, DtypeAloneIsOfAllTensors) {
  EXPECT_EQ(tensor(quantised("vllm:tp=2,dtype=f32"), "model.layers.3.self_attn.o_proj.weight").dtype, DType::kF32);
}

TEST(QuantisedTextTest, WhatDoesNotGoTogetherIsRefused) {
  EXPECT_THAT(refusal("vllm:tp=2,dtype=f8_e4m3"), HasSubstr("dtype=f8_e4m3 needs quant"));
  EXPECT_THAT(refusal("vllm:tp=2,dtype=f8"), HasSubstr("dtype: unknown dtype \"f8\"; known are"));
  EXPECT_THAT(refusal("vllm:tp=2,quant=128"), HasSubstr("quant: unknown kind of scales \"128\"; known are block128"));
  EXPECT_THAT(refusal("vllm:tp=2,quant=tensor"), HasSubstr("quant=tensor: fused parameters have one scale or several"));
  EXPECT_THAT(refusal("vllm:tp=2,quant=block128,dtype=bf16"), HasSubstr("makes weights f8_e4m3, and dtype is bf16"));
  EXPECT_THAT(refusal("vllm:dtype=f32", {.num_layers = 4, .dtype = DType::kBF16}),
              HasSubstr("dtype is F32, and BF16 beside the text"));
}

TEST(QuantisedTextTest, ACutInsideABlockIsNamed) {
  // 18432 rows over 32 ranks.
  EXPECT_THAT(refusal("vllm:tp=32,quant=block128"),
              HasSubstr("dimension 0: is cut at 576, inside a block of 128 that shares a scale"));
}

}  // namespace
}  // namespace reshard
