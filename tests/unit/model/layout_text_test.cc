// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/layout_text.h"

#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

std::int32_t num_ranks(const std::string& text) {
  const Result<std::int32_t> result = layout_text_num_ranks(text);
  EXPECT_TRUE(result.ok()) << text << ": " << result.status().message();
  return result.ok() ? *result : -1;
}

void expect_error(const std::string& text, const std::vector<std::string>& words) {
  const Result<std::int32_t> result = layout_text_num_ranks(text);
  ASSERT_FALSE(result.ok()) << text;
  EXPECT_EQ(result.status().code(), RESHARD_ERR_INVALID_ARGUMENT) << text;
  for (const std::string& word : words) {
    EXPECT_NE(result.status().message().find(word), std::string::npos) << result.status().message();
  }
}

TEST(LayoutTextTest, RanksAreTheProductOfTheSettings) {
  EXPECT_EQ(num_ranks("fsdp"), 1);
  EXPECT_EQ(num_ranks("fsdp:shard=8,replicate=2"), 16);
  EXPECT_EQ(num_ranks("megatron:tp=2,pp=2,dp=2,ep=4,etp=1"), 8);
  EXPECT_EQ(num_ranks("megatron:pp=16,dp=16,ep=16"), 256);
  EXPECT_EQ(num_ranks("megatron:tp=8,pp=8,dp=32,ep=32"), 2048);
  EXPECT_EQ(num_ranks("vllm:tp=2,replicas=4"), 8);
  EXPECT_EQ(num_ranks("vllm:tp=2,dp=4,ep=8,pp=1,replicas=1,redundant=16"), 8);
  EXPECT_EQ(num_ranks("vllm:tp=2,ep=4,redundant=16"), 4) << "a missing dp follows from ep";
  EXPECT_EQ(num_ranks("vllm:tp=8,ep=32,replicas=64"), 2048);
  EXPECT_EQ(num_ranks("vllm:tp=2,ep=2,eplb=no/such/file.json"), 2) << "the file is not needed to count";
  EXPECT_EQ(num_ranks("checkpoint"), 1);
  EXPECT_EQ(num_ranks("checkpoint:ranks=3"), 3);
  EXPECT_EQ(num_ranks("checkpoint:split=5"), 5);
}

TEST(LayoutTextTest, UnknownKindsAndKeysListTheKnownOnes) {
  expect_error("deepspeed:tp=2", {"deepspeed", "fsdp, megatron, vllm, sglang, checkpoint"});
  expect_error("", {"fsdp, megatron, vllm, sglang, checkpoint"});
  expect_error("fsdp:pp=2", {"unknown key \"pp\"", "shard, replicate, tp, outer, dim"});
  expect_error("megatron:shard=2", {"unknown key \"shard\"", "tp, pp, dp, ep, etp, layers, experts"});
  expect_error("vllm:etp=2", {"unknown key \"etp\"", "tp, pp, dp, ep, replicas, redundant, eplb, placement, all2all"});
  expect_error("checkpoint:shard=2", {"unknown key \"shard\"", "ranks, split"});
}

TEST(LayoutTextTest, MalformedSettingsAreNamed) {
  expect_error("fsdp:", {"ends with ':'", "fsdp:KEY=VALUE", "fsdp alone"});
  expect_error("fsdp:shard=2,", {"ends with a comma"});
  expect_error("fsdp:,shard=2", {"two separators"});
  expect_error("fsdp:shard=2,,replicate=2", {"two separators"});
  expect_error("fsdp:shard=2, replicate=2", {"\" replicate\"", "no spaces"});
  expect_error("fsdp:=2", {"no key before \"=2\""});
  expect_error("fsdp:shard", {"shard has no value"});
  expect_error("fsdp:shard=", {"shard has no value"});
  expect_error("fsdp:shard=2,shard=2", {"shard is given twice"});
  for (const std::string value : {"0", "-1", "x", "2x", " 2", "1.0", "99999999999999999999", "262145"}) {
    expect_error("fsdp:shard=" + value, {"shard is \"" + value + "\"", "1 to 262144"});
  }
  expect_error("megatron:tp=100000,dp=100000", {"more than 262144 ranks"});
  expect_error("megatron:experts=fused", {"experts is \"fused\"", "each, local, gmm"});
}

TEST(LayoutTextTest, SettingsThatContradictEachOtherAreNamed) {
  expect_error("megatron:tp=2,dp=3,ep=4", {"ep x etp = 4", "tp x dp = 6"});
  expect_error("megatron:tp=2,dp=2,ep=2,etp=4", {"ep x etp = 8", "tp x dp = 4"});
  expect_error("megatron:pp=2,layers=1-1-1", {"3 stages", "pp = 2"});
  for (const std::string layers : {"-", "1-", "-1", "1--1", "1-x", "1 -1", "99999999999999999999-1"}) {
    expect_error("megatron:pp=2,layers=" + layers, {"layers is \"" + layers + "\""});
  }
  expect_error("vllm:tp=2,dp=2,ep=8", {"ep = 8", "tp x dp = 4"});
  expect_error("vllm:tp=3,ep=8", {"tp = 3", "ep = 8"});
  expect_error("vllm:tp=2,redundant=2", {"redundant needs ep"});
  expect_error("vllm:tp=2,eplb=f", {"eplb needs ep"});
  expect_error("vllm:tp=2,placement=linear", {"placement needs ep"});
  expect_error("vllm:ep=2,redundant=2,eplb=f", {"redundant and eplb"});
  expect_error("vllm:ep=2,redundant=2,placement=round_robin", {"round_robin"});
  expect_error("checkpoint:ranks=2,split=2", {"ranks", "split"});
}

TEST(LayoutTextTest, LargeSettingsFitThePublishedModels) {
  const std::vector<std::pair<std::string, std::string>> settings = {
      {"Qwen3-0.6B", "fsdp:shard=8"},
      {"Qwen3-0.6B", "vllm:tp=2,replicas=4"},
      {"Qwen3-30B-A3B", "megatron:tp=2,pp=2,dp=2,ep=4"},
      {"Qwen3-30B-A3B", "vllm:tp=2,ep=4,redundant=16"},
      {"DeepSeek-V3", "megatron:pp=16,dp=16,ep=16"},
      {"DeepSeek-V3", "vllm:tp=32,replicas=8"},
      {"Kimi-K2-Instruct", "megatron:tp=8,pp=8,dp=32,ep=32"},
      {"Kimi-K2-Instruct", "vllm:tp=8,ep=32,replicas=64"},
      {"Meta-Llama-3.1-405B", "megatron:tp=8,pp=16,dp=4"},
      {"Mixtral-8x7B-v0.1", "vllm:tp=8"},
      {"Qwen3-235B-A22B", "vllm:tp=8,ep=16"},
      {"DeepSeek-V3", "vllm:tp=8,ep=8,placement=round_robin"},
  };
  for (const auto& [model, text] : settings) {
    const Result<ModelLayout> layout = make_model_layout(published_config(model), text);
    ASSERT_TRUE(layout.ok()) << model << ": " << layout.status().message();
    EXPECT_FALSE(layout->buffers_of(layout->num_ranks() - 1).empty()) << model << " " << text;
  }
}

}  // namespace
}  // namespace reshard
