// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Where in a world a layout lies, its type, and which tensors it has.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/model.h"
#include "src/model/name_filter.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<ModelLayout> layout_with(const ModelLayoutOptions& options, const std::string& text = "fsdp:shard=2") {
  return make_model_layout(tiny_llama().dump(), text, options);
}

std::string refusal_of(const ModelLayoutOptions& options) {
  const Result<ModelLayout> layout = layout_with(options);
  EXPECT_FALSE(layout.ok());
  EXPECT_EQ(layout.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  return layout.status().message();
}

std::vector<std::string> tensors_of(const ModelLayoutOptions& options) {
  const Result<ModelLayout> layout = layout_with(options);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  std::vector<std::string> names;
  if (layout.ok()) {
    for (const Tensor& tensor : layout->tensors()) names.push_back(tensor.name);
  }
  return names;
}

TEST(ModelOptionsTest, RanksStartAtTheFirstRankOfTheWorld) {
  const Result<ModelLayout> layout = layout_with({.first_rank = 3});
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  EXPECT_EQ(layout->num_ranks(), 5);
  EXPECT_TRUE(layout->buffers_of(2).empty());
  EXPECT_FALSE(layout->buffers_of(3).empty());
  EXPECT_FALSE(layout->buffers_of(4).empty());
  EXPECT_EQ(layout_with({.num_ranks = 8, .first_rank = 3})->num_ranks(), 8);
  EXPECT_THAT(refusal_of({.num_ranks = 4, .first_rank = 3}), HasSubstr("needs ranks 3 to 4, but the world has 4"));
  EXPECT_THAT(refusal_of({.first_rank = -1}), HasSubstr("first rank -1"));
  EXPECT_THAT(refusal_of({.first_rank = 2147483647}), HasSubstr("first rank 2147483647"));
  EXPECT_THAT(refusal_of({.num_ranks = -1}), HasSubstr("the world has -1 ranks"));
}

TEST(ModelOptionsTest, RanksAreThoseOfTheListInItsOrder) {
  const Result<ModelLayout> layout = layout_with({.num_ranks = 8, .ranks = {6, 1}});
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  EXPECT_EQ(layout->num_ranks(), 8);
  const std::int64_t gate = layout->find_tensor(in_layer(0, "mlp.gate_proj.weight"));  // 8 rows
  EXPECT_EQ(layout->blocks(6, gate).at(0).box.begin[0], 0);
  EXPECT_EQ(layout->blocks(1, gate).at(0).box.begin[0], 4);
  for (const std::int32_t rank : {0, 2, 3, 4, 5, 7}) EXPECT_TRUE(layout->buffers_of(rank).empty()) << rank;
  EXPECT_EQ(layout_with({.ranks = {6, 1}})->num_ranks(), 7) << "the world ends behind the greatest rank";
}

TEST(ModelOptionsTest, ListsThatDoNotFitAreNamed) {
  EXPECT_THAT(refusal_of({.ranks = {1}}), HasSubstr("needs 2 ranks, the list has 1"));
  EXPECT_THAT(refusal_of({.ranks = {1, 1}}), HasSubstr("rank 1 is in the list twice"));
  EXPECT_THAT(refusal_of({.ranks = {1, -1}}), HasSubstr("rank -1"));
  EXPECT_THAT(refusal_of({.first_rank = 1, .ranks = {1, 2}}), HasSubstr("exclude each other"));
  EXPECT_THAT(refusal_of({.num_ranks = 6, .ranks = {6, 1}}), HasSubstr("needs ranks 1 to 6, but the world has 6"));
  EXPECT_THAT(refusal_of({.ranks = {0, 2147483647}}), HasSubstr("2147483647"));
}

TEST(ModelOptionsTest, TypeReplacesThatOfTheConfigButNotThatOfRouterBiases) {
  const auto layout = make_model_layout(tiny_deepseek().dump(), "fsdp", {.dtype = DType::kF16});
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  for (const Tensor& tensor : layout->tensors()) {
    const bool is_bias = tensor.name.find("e_score_correction_bias") != std::string::npos;
    EXPECT_EQ(tensor.dtype, is_bias ? DType::kF32 : DType::kF16) << tensor.name;
  }
  const std::int64_t norm = layout->find_tensor("model.norm.weight");
  EXPECT_EQ(layout->blocks(0, norm).at(0).strides_bytes[0], 2);
}

TEST(ModelOptionsTest, TensorsAreSelectedByName) {
  EXPECT_THAT(tensors_of({.include = {"*norm.weight"}, .exclude = {"model.layers.*"}}),
              ElementsAre("model.norm.weight"));
  EXPECT_THAT(tensors_of({.include = {"lm_head.weight", "model.layers.1.mlp.?ate_proj.weight"}}),
              ElementsAre(in_layer(1, "mlp.gate_proj.weight"), "lm_head.weight"));
  EXPECT_THAT(tensors_of({.exclude = {"*.layers.*", "lm_head.weight"}}),
              ElementsAre("model.embed_tokens.weight", "model.norm.weight"));
}

TEST(ModelOptionsTest, WhatIsLeftOutOfAFusedBufferIsAGap) {
  const auto layout = layout_with({.exclude = {"*.k_proj.weight"}}, "vllm:tp=4");
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  const Memory memory = memory_of(*layout, 1);
  const std::vector<Element>& qkv = memory.buffers.at(in_layer(0, "self_attn.qkv_proj.weight"));
  ASSERT_EQ(qkv.size(), 8U);  // 2 + 1 + 1 rows of 2
  EXPECT_EQ(qkv[4], kNothing);
  EXPECT_EQ(qkv[6], (Element{in_layer(0, "self_attn.v_proj.weight"), {1, 0}}));
}

TEST(ModelOptionsTest, PatternsThatFitNothingAreNamed) {
  EXPECT_THAT(refusal_of({.include = {"*", "model.layer.*"}}), HasSubstr("include pattern \"model.layer.*\""));
  EXPECT_THAT(refusal_of({.exclude = {"lm_head"}}), HasSubstr("exclude pattern \"lm_head\""));
  EXPECT_THAT(refusal_of({.exclude = {"*"}}), HasSubstr("leave no tensor"));
}

TEST(NameFilterTest, StarsAndQuestionMarks) {
  for (const char* pattern : {"abc", "*", "a*", "*c", "a*c", "a?c", "***", "*b*", "ab*c", "abc*", "???"}) {
    EXPECT_TRUE(matches(pattern, "abc")) << pattern;
  }
  for (const char* pattern : {"", "ab", "abcd", "?", "????", "*d*", "b*", "*b", "a*b", "a?", "abc?", "abc*?"}) {
    EXPECT_FALSE(matches(pattern, "abc")) << pattern;
  }
  EXPECT_TRUE(matches("*a*b*c", "xaxbxabxbc"));
  EXPECT_FALSE(matches("*a*b*c", "xaxbxabxb"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_TRUE(matches("*", ""));
  // Would take hours if earlier stars were tried again.
  EXPECT_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace reshard
