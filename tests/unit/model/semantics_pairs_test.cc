// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// As semantics_test.cc: what one framework's ranks need of another's, element by element. Of each element of a
// destination buffer the ranks that hold it on the other side are what the worked numbers say.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "holders.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::string>;
using testing::HasSubstr;

const std::string kDown = "mlp.down_proj.weight", kGateUp = "mlp.gate_up_proj.weight";

// ---- tensor parallel to tensor parallel

/// Expects that columns of down_proj, `width` of them, go from T ranks to t: x from rank x / (width / T).
void expect_columns(std::int64_t width, std::int64_t from, std::int64_t to) {
  // As many heads as both divide.
  const Json config = changed(tiny_llama(), {{"intermediate_size", width},
                                             {"num_attention_heads", from * to},
                                             {"num_key_value_heads", from * to},
                                             {"vocab_size", 64 * to}});
  const Holders src(config, fmt::format("megatron:tp={}", from)), dst(config, fmt::format("vllm:tp={}", to));
  const std::string down = in_layer(0, kDown);
  for (std::int64_t rank = 0; rank < to; ++rank) {
    const std::int64_t first = rank * width / to;
    expect_buffer(dst.memory(rank), down, {2, width / to}, [&](const Index& i) {
      return Element{down, {i[0], first + i[1]}};
    });
    for (std::int64_t x = first; x < first + width / to; ++x) {
      EXPECT_EQ(src.of(down, {1, x}), (Ranks{x / (width / from)})) << "column " << x;
    }
  }
}

TEST(SemanticsTest, Row01_TensorParallelRanksAreMerged) {
  expect_columns(8, 4, 2);  // dst 0 from src 0 [0, 2) and src 1 [2, 4)
  expect_columns(24, 6, 2);
}

TEST(SemanticsTest, Row02_TensorParallelRanksAreSplit) {
  expect_columns(8, 2, 4);  // dst 1 from src 0 [2, 4)
  expect_columns(24, 2, 6);
}

TEST(SemanticsTest, Row03_SizesNeedNotDivideEachOther) {
  expect_columns(12, 6, 4);  // dst 1 from src 1 [3, 4) and src 2 [4, 6)
  expect_columns(30, 5, 3);
  // DTensors are cut by torch.chunk, heads or not: 8 rows on 3 ranks.
  const Holders chunks(tiny_llama(), "fsdp:shard=1,tp=3");
  EXPECT_EQ(chunks.rows(1, in_layer(0, "self_attn.q_proj.weight")), (Rows{"q3", "q4", "q5"}));
  EXPECT_EQ(chunks.rows(2, in_layer(0, "self_attn.q_proj.weight")), (Rows{"q6", "q7"}));
}

TEST(SemanticsTest, Row11_HalvesOfGateAndUpStandTogetherOnEveryRank) {
  const Holders src(tiny_llama(), "megatron:tp=4"), dst(tiny_llama(), "vllm:tp=2");
  EXPECT_EQ(src.rows(1, "decoder.layers.0.mlp.linear_fc1.weight"), (Rows{"g2", "g3", "u2", "u3"}));
  EXPECT_EQ(dst.rows(0, in_layer(0, kGateUp)), (Rows{"g0", "g1", "g2", "g3", "u0", "u1", "u2", "u3"}));
  // A bias lies as its weight does.
  const Json biased = changed(tiny_llama(), {{"mlp_bias", true}});
  const std::string bias = in_layer(0, "mlp.up_proj.bias");
  const Memory memory = memory_of(layout_of(biased, "vllm:tp=4"), 1);
  EXPECT_EQ(memory.buffers.at(in_layer(0, "mlp.gate_up_proj.bias"))[2], (Element{bias, {2}}));
  EXPECT_EQ(memory.buffers.at(in_layer(0, "mlp.down_proj.bias")).size(), 2U) << "of rows that nobody cuts";
  // starcoder2's has no gate.
  const Json plain = changed(tiny_llama(), {{"model_type", "starcoder2"}});
  expect_buffer(memory_of(layout_of(plain, "megatron:tp=4"), 1), "decoder.layers.0.mlp.linear_fc1.weight", {2, 2},
                [&](const Index& i) {
                  return Element{in_layer(0, "mlp.c_fc.weight"), {2 + i[0], i[1]}};
                });
}

TEST(SemanticsTest, Row13_QueriesKeysAndValuesLeaveTheirGroups) {
  // 8 heads of one row, 4 groups: two ranks of [q q k v | q q k v] to 1 and to 4 servers.
  EXPECT_EQ(Holders(tiny_llama(), "megatron:tp=2").rows(0, "decoder.layers.0.self_attention.linear_qkv.weight"),
            (Rows{"q0", "q1", "k0", "v0", "q2", "q3", "k1", "v1"}));
  const std::string qkv = in_layer(0, "self_attn.qkv_proj.weight");
  EXPECT_EQ(Holders(tiny_llama(), "vllm:tp=1").rows(0, qkv),
            (Rows{"q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "k0", "k1", "k2", "k3", "v0", "v1", "v2", "v3"}));
  EXPECT_EQ(Holders(tiny_llama(), "vllm:tp=4").rows(1, qkv), (Rows{"q2", "q3", "k1", "v1"}));
}

TEST(SemanticsTest, Row14_KeysAndValuesAreRepeatedOverMoreRanks) {
  const Json config = changed(tiny_llama(), {{"num_key_value_heads", 2}});
  const std::string qkv = in_layer(0, "self_attn.qkv_proj.weight");
  for (const char* text : {"vllm:tp=4", "sglang:tp=4", "sglang:tp=4,replicas=2"}) {
    const Holders dst(config, text);
    EXPECT_EQ(dst.rows(0, qkv), (Rows{"q0", "q1", "k0", "v0"}));
    EXPECT_EQ(dst.rows(1, qkv), (Rows{"q2", "q3", "k0", "v0"}));
    EXPECT_EQ(dst.rows(2, qkv), (Rows{"q4", "q5", "k1", "v1"}));
    EXPECT_EQ(dst.rows(3, qkv), (Rows{"q6", "q7", "k1", "v1"}));
  }
}

TEST(SemanticsTest, Row15_FewerGroupsThanRanksAreCutInsideThem) {
  // [q0 q1 q2] [q3 k0 v0] [q4 q5 q6] [q7 k1 v1]: server rank 1 needs a row of trainer rank 0 and all of rank 1.
  const Json config = changed(tiny_llama(), {{"num_key_value_heads", 2}});
  const Holders src(config, "megatron:tp=4"), dst(config, "vllm:tp=4");
  const std::string qkv = "decoder.layers.0.self_attention.linear_qkv.weight";
  EXPECT_EQ(src.rows(0, qkv), (Rows{"q0", "q1", "q2"}));
  EXPECT_EQ(src.rows(1, qkv), (Rows{"q3", "k0", "v0"}));
  EXPECT_EQ(src.rows(2, qkv), (Rows{"q4", "q5", "q6"}));
  EXPECT_EQ(src.rows(3, qkv), (Rows{"q7", "k1", "v1"}));
  EXPECT_EQ(dst.rows(1, in_layer(0, "self_attn.qkv_proj.weight")), (Rows{"q2", "q3", "k0", "v0"}));
  EXPECT_EQ(src.of(in_layer(0, "self_attn.q_proj.weight"), {2, 0}), Ranks{0});
  EXPECT_EQ(src.of(in_layer(0, "self_attn.k_proj.weight"), {0, 1}), Ranks{1});
}

TEST(SemanticsTest, Row16_BiasesLieAsTheirWeightsDo) {
  const Json config = changed(tiny_llama(), {{"model_type", "qwen2"}});
  const auto biases = [](const Memory& memory, const std::string& buffer) {
    Rows rows;
    for (const Element& element : memory.buffers.at(buffer)) {
      rows.push_back(element.tensor.substr(element.tensor.find("_proj") - 1, 1) + std::to_string(element.index[0]));
    }
    return rows;
  };
  const Holders src(config, "megatron:tp=2"), dst(config, "vllm:tp=4");
  EXPECT_EQ(biases(src.memory(1), "decoder.layers.1.self_attention.linear_qkv.bias"),
            (Rows{"q4", "q5", "k2", "v2", "q6", "q7", "k3", "v3"}));
  EXPECT_EQ(biases(dst.memory(2), in_layer(1, "self_attn.qkv_proj.bias")), (Rows{"q4", "q5", "k2", "v2"}));
}

TEST(SemanticsTest, Row19_UpProjectionsOfLatentAttentionAreCutByHeads) {
  // 8 heads of 3 rows (2 + 1) of q_b and of 4 (2 + 2) of kv_b, from 8 ranks to 4: ranks 2 j and 2 j + 1.
  const Json config =
      changed(tiny_deepseek(), {{"num_attention_heads", 8}, {"intermediate_size", 16}, {"moe_intermediate_size", 8}});
  const Holders src(config, "megatron:tp=8"), dst(config, "vllm:tp=4");
  const std::string q_b = in_layer(0, "self_attn.q_b_proj.weight"), kv_b = in_layer(0, "self_attn.kv_b_proj.weight");
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    expect_buffer(dst.memory(rank), q_b, {6, 3}, [&](const Index& i) { return Element{q_b, {rank * 6 + i[0], i[1]}}; });
    expect_buffer(dst.memory(rank), kv_b, {8, 2}, [&](const Index& i) {
      return Element{kv_b, {rank * 8 + i[0], i[1]}};
    });
    EXPECT_EQ(src.of(q_b, {rank * 6 + 2, 0}), Ranks{2 * rank});
    EXPECT_EQ(src.of(q_b, {rank * 6 + 3, 0}), Ranks{2 * rank + 1});
    EXPECT_EQ(src.of(kv_b, {rank * 8 + 4, 0}), Ranks{2 * rank + 1});
  }
}

// ---- FSDP to tensor parallel

TEST(SemanticsTest, Row04_ShardsMayBeUnevenAndEmpty) {
  const Json config = changed(tiny_llama(), {{"vocab_size", 10}, {"hidden_size", 5}});
  const Holders src(config, "fsdp:shard=4");
  for (std::int64_t row = 0; row < 10; ++row) {  // 3 3 3 1
    EXPECT_EQ(src.of("lm_head.weight", {row, 4}), (Ranks{row / 3}));
  }
  const auto size = [&](std::int64_t rank) { return src.memory(rank).buffers.at("model.norm.weight").size(); };
  EXPECT_EQ((Ranks{static_cast<std::int64_t>(size(0)), static_cast<std::int64_t>(size(1)),
                   static_cast<std::int64_t>(size(2)), static_cast<std::int64_t>(size(3))}),
            (Ranks{2, 2, 1, 0}));
}

TEST(SemanticsTest, Row06_RowBlocksMeetColumnBlocks) {
  // o_proj [8, 8]: 4 shards of 2 rows, 2 servers of 4 columns. A tile of 2 x 4 from each to each.
  const Json config = changed(tiny_llama(), {{"hidden_size", 8}});
  const Holders src(config, "fsdp:shard=4"), dst(config, "vllm:tp=2");
  const std::string o = in_layer(0, "self_attn.o_proj.weight");
  for (std::int64_t row = 0; row < 8; ++row) {
    for (std::int64_t column = 0; column < 8; ++column) {
      const Element element{o, {row, column}};
      const std::int64_t shard = row / 2, server = column / 4;
      EXPECT_EQ(src.of(element), Ranks{shard});
      EXPECT_EQ(dst.of(element), Ranks{server});
      EXPECT_EQ(src.memory(shard).buffers.at(o)[static_cast<std::size_t>(row % 2 * 8 + column)], element);
      EXPECT_EQ(dst.memory(server).buffers.at(o)[static_cast<std::size_t>(row * 4 + column % 4)], element);
    }
  }
}

TEST(SemanticsTest, Row08_ReplicasOfHybridShardingHoldTheSameChunk) {
  const Holders src(changed(tiny_llama(), {{"vocab_size", 9}}), "fsdp:shard=4,replicate=2");
  for (std::int64_t row = 0; row < 9; ++row) {  // chunk r % 4: 3 3 3 0
    EXPECT_EQ(src.of("lm_head.weight", {row, 0}), (Ranks{row / 3, row / 3 + 4}));
  }
}

// ---- stages

TEST(SemanticsTest, Row22_EveryLayerComesFromTheStageThatHasIt) {
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 7}});
  const Holders src(config, "megatron:tp=2,pp=3");  // 3, 2, 2
  for (std::int64_t layer = 0; layer < 7; ++layer) {
    const std::int64_t stage = layer < 3 ? 0 : layer < 5 ? 1 : 2;
    EXPECT_EQ(src.of(in_layer(layer, "input_layernorm.weight"), {1}), (Ranks{2 * stage, 2 * stage + 1}));
    EXPECT_EQ(src.of(in_layer(layer, kDown), {0, 5}), Ranks{2 * stage + 1});
  }
}

TEST(SemanticsTest, Row26_ServersMayHaveStagesOfTheirOwn) {
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 7}, {"vocab_size", 64}});
  const auto stages = [&](const std::string& text, std::int64_t per_stage) {
    const Holders dst(config, text);
    Ranks found;
    for (std::int64_t layer = 0; layer < 7; ++layer) {
      const Ranks& ranks = dst.of(in_layer(layer, "input_layernorm.weight"), {0});
      EXPECT_EQ(static_cast<std::int64_t>(ranks.size()), per_stage) << text;
      found.push_back(ranks.front() / per_stage);
    }
    return found;
  };
  EXPECT_EQ(stages("vllm:tp=2,pp=3", 2), (Ranks{0, 0, 1, 1, 1, 2, 2})) << "one more before the last";
  EXPECT_EQ(stages("vllm:tp=2,pp=3,layers=4-1-2", 2), (Ranks{0, 0, 0, 0, 1, 2, 2}));
  EXPECT_EQ(stages("sglang:tp=2,pp=3", 2), (Ranks{0, 0, 1, 1, 2, 2, 2})) << "one more on the last";
  EXPECT_EQ(stages("sglang:pp=2,layers=6-1", 1), (Ranks{0, 0, 0, 0, 0, 0, 1}));
  const Holders dst(config, "sglang:tp=2,pp=3,replicas=2");
  EXPECT_EQ(dst.of("model.embed_tokens.weight", {33, 0}), (Ranks{1, 7}));
  EXPECT_EQ(dst.of("lm_head.weight", {33, 0}), (Ranks{5, 11}));
  EXPECT_THAT(error_of(config, "vllm:pp=2,layers=4-4"),
              testing::AllOf(HasSubstr("vllm:pp=2"), HasSubstr("layers add up to 8, but the model has 7")));
  EXPECT_THAT(error_of(config, "vllm:pp=2,layers=7"), HasSubstr("layers names 1 stages, but pp = 2"));
  EXPECT_THAT(error_of(config, "sglang:pp=2,layers=3-x"), HasSubstr("layers is \"3-x\""));
}

// ---- SGLang's attention groups

TEST(SemanticsTest, Row37_AttentionGroupsRepeatEachOther) {
  // tp 4 in 2 groups of 2: heads over a group, MLPs and the output layer over all, the embedding whole, 64 rows of it.
  const Json config = changed(tiny_deepseek(), {{"vocab_size", 50}});
  const Holders dst(config, "sglang:tp=4,attention_dp=2");
  const std::string o = in_layer(0, "self_attn.o_proj.weight");
  EXPECT_EQ(dst.of(o, {0, 3}), (Ranks{0, 2}));
  EXPECT_EQ(dst.of(o, {0, 4}), (Ranks{1, 3}));
  EXPECT_EQ(dst.of(in_layer(0, kDown), {0, 5}), Ranks{2});
  EXPECT_EQ(dst.of("model.embed_tokens.weight", {49, 0}), (Ranks{0, 1, 2, 3}));
  EXPECT_EQ(dst.memory(3).buffers.at("model.embed_tokens.weight").size(), 128U);
  EXPECT_EQ(dst.memory(3).buffers.at("model.embed_tokens.weight")[100], kZero);
  EXPECT_EQ(dst.of("lm_head.weight", {17, 0}), Ranks{1});
  EXPECT_EQ(dst.memory(0).buffers.count(in_layer(0, "self_attn.fused_qkv_a_proj_with_mqa.weight")), 1U);
  const Holders whole(config, "sglang:tp=4,attention_dp=2,dense=whole,output=attention");
  EXPECT_EQ(whole.of(in_layer(0, kDown), {0, 5}), (Ranks{0, 1, 2, 3}));
  EXPECT_EQ(whole.of("lm_head.weight", {33, 0}), (Ranks{1, 3}));
  EXPECT_THAT(error_of(config, "sglang:tp=4,attention_dp=3"), HasSubstr("attention_dp = 3 does not divide tp = 4"));
  EXPECT_THAT(error_of(config, "sglang:tp=4,dense=whole"), HasSubstr("dense needs attention_dp"));
  EXPECT_THAT(error_of(tiny_llama(), "sglang:tp=4,attention_dp=2"), HasSubstr("llama has no data-parallel attention"));
  EXPECT_THAT(error_of(changed(tiny_llama(), {{"model_type", "phi3"}}), "sglang"),
              HasSubstr("how SGLang holds phi3 is not known here"));
}

// ---- vocabulary, types

TEST(SemanticsTest, Row40_TrainersAndServersPadTheVocabularyOtherwise) {
  // 50257 rows: 51200 on 8 trainers; 50304 on 4 servers of 12576, of which the last has 12529 and 47 of zeros.
  const Json config = changed(tiny_llama(), {{"vocab_size", 50257}, {"hidden_size", 1}, {"num_hidden_layers", 1}});
  const std::string embedding = "model.embed_tokens.weight";
  const ModelLayout src = layout_of(config, "megatron:tp=8");
  for (const char* text : {"vllm:tp=4", "sglang:tp=4"}) {
    const Memory last = memory_of(layout_of(config, text), 3);
    expect_buffer(last, embedding, {12576, 1}, [&](const Index& i) {
      return i[0] < 12529 ? Element{embedding, {3 * 12576 + i[0], 0}} : kZero;
    });
  }
  for (const std::int64_t row : {0, 6399, 6400, 44800, 50256}) {
    const Memory memory = memory_of(src, static_cast<std::int32_t>(row / 6400));
    EXPECT_EQ(memory.buffers.at("embedding.word_embeddings.weight")[static_cast<std::size_t>(row % 6400)],
              (Element{embedding, {row, 0}}));
  }
}

TEST(SemanticsTest, Row41_TiedEmbeddingsAreOneTensorInOneBufferOrTwo) {
  const Json config = changed(tiny_llama(), {{"tie_word_embeddings", true}, {"vocab_size", 64}});
  const Element element{"model.embed_tokens.weight", {63, 1}};
  for (const char* text : {"fsdp", "megatron", "vllm", "sglang", "checkpoint"}) {
    const Holders holders(config, text);
    EXPECT_EQ(holders.layout().find_tensor("lm_head.weight"), -1) << text;
    std::size_t count = 0;
    for (const auto& [name, elements] : holders.memory(0).buffers) {
      count += static_cast<std::size_t>(std::count(elements.begin(), elements.end(), element));
    }
    EXPECT_EQ(count, 1U) << text;
  }
  const std::pair<const char*, const char*> copies[] = {{"megatron:pp=2", "output_layer.weight"},
                                                        {"vllm:pp=2", "model.embed_tokens.weight"},
                                                        {"sglang:pp=2", "lm_head.weight"}};
  for (const auto& [text, buffer] : copies) {
    const Holders holders(config, text);
    EXPECT_EQ(holders.of(element), (Ranks{0, 1})) << text;
    EXPECT_EQ(holders.memory(1).buffers.count(buffer), 1U) << text;
  }
}

TEST(SemanticsTest, Row42_WhatServersMakeNoParameterOfIsNotInTheirLayout) {
  // Biases of o_proj, which vLLM's Qwen3 lacks: a plan then names them as being on one side only.
  const Json config = changed(tiny_llama(), {{"model_type", "qwen3"}, {"attention_bias", true}, {"vocab_size", 64}});
  const std::string q = in_layer(0, "self_attn.q_proj.bias"), o = in_layer(0, "self_attn.o_proj.bias");
  const ModelLayout src = layout_of(config, "fsdp:shard=2"), dst = layout_of(config, "vllm:tp=2");
  EXPECT_GE(src.find_tensor(o), 0);
  EXPECT_GE(dst.find_tensor(q), 0);
  EXPECT_EQ(dst.find_tensor(o), -1);
  EXPECT_THAT(error_of(config, "sglang:tp=2"), testing::AllOf(HasSubstr(o), HasSubstr("not known here")));
}

TEST(SemanticsTest, Row48_EverySideHasATypeOfItsOwn) {
  const ModelLayout masters = layout_of(tiny_deepseek(), "fsdp:shard=2,dtype=f32"),
                    servers = layout_of(tiny_deepseek(), "sglang:tp=2,dtype=bf16");
  const std::string norm = "model.norm.weight";
  EXPECT_EQ(at(masters.tensors(), masters.find_tensor(norm)).dtype, DType::kF32);
  EXPECT_EQ(at(servers.tensors(), servers.find_tensor(norm)).dtype, DType::kBF16);
  EXPECT_THAT(error_of(tiny_llama(), "vllm:dtype=int4"), HasSubstr("dtype"));
}

TEST(SemanticsTest, Row49_BuffersOfSeveralTypesStandBesideEachOther) {
  // 8 fp32 elements of the bias in 32 bytes, 8 x 2 bf16 ones of the weight in as many; each in a buffer of its own.
  const ModelLayout layout = layout_of(tiny_deepseek(), "vllm:tp=2");
  for (const std::int64_t id : layout.buffers_of(1)) {
    const Buffer& buffer = at(layout.buffers(), id);
    if (buffer.name.find("layers.1.mlp.gate.") == std::string::npos) continue;
    const bool is_bias = buffer.name.find("bias") != std::string::npos;
    EXPECT_EQ(buffer.dtype, is_bias ? DType::kF32 : DType::kBF16) << buffer.name;
    EXPECT_EQ(layout.buffer_size_bytes(1, id), 32) << buffer.name;
  }
}

}  // namespace
}  // namespace reshard
