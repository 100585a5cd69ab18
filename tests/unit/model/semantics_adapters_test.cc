// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// As semantics_test.cc: LoRA adapters alone, W + alpha / r B A, where each side holds A and B.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "holders.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

std::string a_of(const std::string& projection) {
  return in_layer(0, projection + ".lora_A.weight");
}
std::string b_of(const std::string& projection) {
  return in_layer(0, projection + ".lora_B.weight");
}

TEST(SemanticsTest, Row52_AdaptersOfTrainersAreCutByRows) {
  // Rank 3 on 2 ranks: A [3, 2] in 2 and 1 rows, B [8, 3] in 4 and 4; nothing else of the model is there.
  const ModelLayout layout = layout_of(tiny_llama(), "fsdp:shard=2,lora=3,lora_targets=q_proj-down_proj");
  EXPECT_EQ(layout.tensors().size(), 8U) << "A and B of two projections in two layers";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    expect_buffer(memory, a_of("self_attn.q_proj"), {2 - rank, 2}, [&](const Index& i) {
      return Element{a_of("self_attn.q_proj"), {rank * 2 + i[0], i[1]}};
    });
    expect_buffer(memory, b_of("mlp.down_proj"), {1, 3}, [&](const Index& i) {
      return Element{b_of("mlp.down_proj"), {rank, i[1]}};
    });
  }
}

TEST(SemanticsTest, Row52_ServersCutBWithOutputsAndAWithInputs) {
  // 8 heads of one row on 2 ranks, 4 key heads, width 8; rank 3. q and gate have their outputs cut, o and down inputs.
  const ModelLayout layout = layout_of(tiny_llama(), "vllm:tp=2,lora=3");
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    const auto expect = [&](const std::string& buffer, const Index& shape, const std::string& tensor, std::size_t dim) {
      expect_buffer(memory, in_layer(0, buffer), shape, [&](const Index& i) {
        Index index = i;
        if (dim < 2) index[dim] += rank * shape[dim];
        return Element{tensor, index};
      });
    };
    const std::size_t whole = 2;
    expect("self_attn.qkv_proj.lora_a_stacked.0", {3, 2}, a_of("self_attn.q_proj"), whole);
    expect("self_attn.qkv_proj.lora_b_stacked.0", {4, 3}, b_of("self_attn.q_proj"), 0);
    expect("self_attn.qkv_proj.lora_b_stacked.2", {2, 3}, b_of("self_attn.v_proj"), 0);
    expect("self_attn.o_proj.lora_a_stacked.0", {3, 4}, a_of("self_attn.o_proj"), 1);
    expect("self_attn.o_proj.lora_b_stacked.0", {2, 3}, b_of("self_attn.o_proj"), whole);
    expect("mlp.gate_up_proj.lora_a_stacked.1", {3, 2}, a_of("mlp.up_proj"), whole);
    expect("mlp.gate_up_proj.lora_b_stacked.1", {4, 3}, b_of("mlp.up_proj"), 0);
    expect("mlp.down_proj.lora_a_stacked.0", {3, 4}, a_of("mlp.down_proj"), 1);
    EXPECT_EQ(memory.buffers.size(), 28U);
  }
  // More ranks than key heads: those of one head have the same rows.
  const Holders eight(tiny_llama(), "vllm:tp=8,lora=2,lora_targets=k_proj");
  EXPECT_EQ(eight.of(b_of("self_attn.k_proj"), {1, 1}), (Ranks{2, 3}));
}

TEST(SemanticsTest, Row52_MegatronAdaptsFusedProjectionsWithOneA) {
  // B of linear_qkv has the rows of linear_qkv: q q k v of each group; B of fc1 this rank's of gate, then of up.
  const ModelLayout layout = layout_of(tiny_llama(), "megatron:tp=2,lora=2");
  const Memory memory = memory_of(layout, 1);
  const std::string layer = "decoder.layers.0.";
  const std::pair<const char*, std::int64_t> rows[] = {{"q", 4}, {"q", 5}, {"k", 2}, {"v", 2},
                                                       {"q", 6}, {"q", 7}, {"k", 3}, {"v", 3}};
  expect_buffer(memory, layer + "self_attention.linear_qkv.lora_B.weight", {8, 2}, [&](const Index& i) {
    const auto& [name, row] = rows[i[0]];
    return Element{b_of(fmt::format("self_attn.{}_proj", name)), {row, i[1]}};
  });
  expect_buffer(memory, layer + "mlp.linear_fc1.lora_B.weight", {8, 2}, [&](const Index& i) {
    return Element{b_of(i[0] < 4 ? "mlp.gate_proj" : "mlp.up_proj"), {4 + i[0] % 4, i[1]}};
  });
  expect_buffer(memory, layer + "mlp.linear_fc2.lora_A.weight", {2, 4}, [&](const Index& i) {
    return Element{a_of("mlp.down_proj"), {i[0], 4 + i[1]}};
  });
  // The A that q, k and v share is all three tensors, in one place.
  const auto place = [&](const char* name) {
    const std::vector<Block> blocks = layout.blocks(1, layout.find_tensor(a_of(name)));
    EXPECT_EQ(blocks.size(), 1U);
    return std::pair(blocks[0].buffer, blocks[0].offset_bytes);
  };
  EXPECT_EQ(place("self_attn.q_proj"), place("self_attn.k_proj"));
  EXPECT_EQ(place("self_attn.q_proj"), place("self_attn.v_proj"));
}

TEST(SemanticsTest, Row52_WhatCannotBeAdaptedIsNamed) {
  EXPECT_THAT(error_of(tiny_llama(), "fsdp:lora_targets=q_proj"), HasSubstr("lora_targets needs lora"));
  EXPECT_THAT(error_of(tiny_llama(), "fsdp:lora=4,lora_targets=q_proj-c_proj"),
              testing::AllOf(HasSubstr("lora_targets names \"c_proj\""),
                             HasSubstr("down_proj-gate_proj-k_proj-o_proj-q_proj-up_proj-v_proj")));
  EXPECT_THAT(error_of(tiny_llama(), "megatron:lora=4,lora_targets=q_proj-v_proj"),
              HasSubstr("2 of the 3 projections that self_attention.linear_qkv.lora_B adapts together"));
  EXPECT_THAT(error_of(tiny_llama(), "vllm:lora=4,quant=block128"), HasSubstr("adapters are not quantised"));
  EXPECT_THAT(error_of(tiny_llama(), "sglang:lora=4"), HasSubstr("how SGLang holds adapters is not known"));
  EXPECT_THAT(error_of(tiny_llama(), "checkpoint:lora=0"), HasSubstr("lora is \"0\""));
  EXPECT_THAT(error_of(tiny_llama(), "fsdp:lora=4,units=flat"), HasSubstr("lora_A"));
}

}  // namespace
}  // namespace reshard
