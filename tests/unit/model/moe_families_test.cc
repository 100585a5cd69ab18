// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// What is special about families with experts, with linear or with sparse attention, in closed forms: which row of
// which checkpoint tensor lies where. Whole models are compared with records of the packages in tests/families.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/families.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// A row of a checkpoint tensor of layer 0.
struct Row {
  std::string tensor;
  std::int64_t row = 0;
};

/// The buffer's rows, whose further dims are those of the tensors.
void expect_rows(const Memory& memory, const std::string& buffer, const std::vector<Row>& rows,
                 const Index& other_dims) {
  Index shape = {static_cast<std::int64_t>(rows.size())};
  shape.insert(shape.end(), other_dims.begin(), other_dims.end());
  expect_buffer(memory, buffer, shape, [&](const Index& i) {
    const Row& row = rows[static_cast<std::size_t>(i[0])];
    Element element{in_layer(0, row.tensor), i};
    element.index[0] = row.row;
    return element;
  });
}

std::vector<Row> run(const std::string& tensor, std::int64_t begin, std::int64_t count) {
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < count; ++i) rows.push_back({tensor, begin + i});
  return rows;
}

std::vector<Row> joined(const std::vector<std::vector<Row>>& parts) {
  std::vector<Row> all;
  for (const std::vector<Row>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Memory memory_on(const Json& config, const std::string& text, std::int32_t rank) {
  Memory memory = memory_of(layout_of(config, text), rank);
  EXPECT_EQ(memory.defect, "") << text << " rank " << rank;
  return memory;
}

DType type_of(const Json& config, const std::string& text, const std::string& buffer) {
  const ModelLayout layout = layout_of(config, text);
  for (const Buffer& each : layout.buffers()) {
    if (each.name == buffer) return each.dtype;
  }
  ADD_FAILURE() << text << " has no " << buffer;
  return DType::kF16;
}

// ---- Qwen3-Next and Qwen3.5: 4 key heads of 2 rows, 8 value heads of 1, a kernel of 2; then 4 heads of 2, gated

Json tiny_hybrid(const std::string& model_type) {
  return changed(tiny_qwen3_moe(), {{"model_type", model_type},
                                    {"num_attention_heads", 4},
                                    {"num_key_value_heads", 2},
                                    {"head_dim", 2},
                                    {"layer_types", {"linear_attention", "full_attention"}},
                                    {"linear_num_key_heads", 4},
                                    {"linear_num_value_heads", 8},
                                    {"linear_key_head_dim", 2},
                                    {"linear_value_head_dim", 1},
                                    {"linear_conv_kernel_dim", 2},
                                    {"shared_expert_intermediate_size", 4}});
}

const char* const kNorm = "*.linear_attn.norm.weight";

Memory megatron_memory(const Json& config, const std::string& text, std::int32_t rank) {
  ModelLayoutOptions options;
  options.exclude = {kNorm};
  Result<ModelLayout> layout = make_model_layout(config.dump(), text, options);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return layout.ok() ? memory_of(*layout, rank) : Memory();
}

TEST(HybridFamiliesTest, Qwen3NextKeepsItsKeyHeadsTogetherOnServers) {
  // A key head of in_proj_qkvz: 2 rows of q, 2 of k, 2 of v, 2 of z. A rank of 2 has two of them.
  const std::string linear = "linear_attn.";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_on(tiny_hybrid("qwen3_next"), "vllm:tp=2", static_cast<std::int32_t>(rank));
    expect_rows(memory, in_layer(0, linear + "in_proj_qkvz.weight"), run(linear + "in_proj_qkvz.weight", 16 * rank, 16),
                {2});
    expect_rows(memory, in_layer(0, linear + "in_proj_ba.weight"), run(linear + "in_proj_ba.weight", 8 * rank, 8), {2});
    // The convolution has 8 rows of q, 8 of k, 8 of v, and is cut part by part.
    const std::string conv = linear + "conv1d.weight";
    expect_rows(memory, in_layer(0, conv),
                joined({run(conv, 4 * rank, 4), run(conv, 8 + 4 * rank, 4), run(conv, 16 + 4 * rank, 4)}), {1, 2});
    expect_rows(memory, in_layer(0, linear + "A_log"), run(linear + "A_log", 4 * rank, 4), {});
  }
  EXPECT_EQ(type_of(tiny_hybrid("qwen3_next"), "vllm", in_layer(0, linear + "A_log")), DType::kF32);
  EXPECT_EQ(type_of(tiny_hybrid("qwen3_next"), "checkpoint", in_layer(0, linear + "A_log")), DType::kBF16);
}

TEST(HybridFamiliesTest, Qwen3NextIsTakenApartForMegatron) {
  // Of rank 1 key heads 2 and 3: their q, then k, v, z, then b and a of their value heads.
  std::vector<Row> rows;
  for (const std::int64_t part : {0, 2, 4, 6}) {
    for (const std::int64_t head : {2, 3}) {
      for (std::int64_t i = 0; i < 2; ++i) rows.push_back({"linear_attn.in_proj_qkvz.weight", 8 * head + part + i});
    }
  }
  for (const std::int64_t part : {0, 2}) {
    for (const std::int64_t head : {2, 3}) {
      for (std::int64_t i = 0; i < 2; ++i) rows.push_back({"linear_attn.in_proj_ba.weight", 4 * head + part + i});
    }
  }
  const Memory memory = megatron_memory(tiny_hybrid("qwen3_next"), "megatron:tp=2", 1);
  EXPECT_EQ(memory.defect, "");
  const std::string attention = "decoder.layers.0.self_attention.";
  expect_rows(memory, attention + "in_proj.weight", rows, {2});
  const std::string conv = "linear_attn.conv1d.weight";
  expect_rows(memory, attention + "conv1d.weight", joined({run(conv, 4, 4), run(conv, 12, 4), run(conv, 20, 4)}),
              {1, 2});
  expect_rows(memory, attention + "dt_bias", run("linear_attn.dt_bias", 4, 4), {});
}

TEST(HybridFamiliesTest, Qwen3_5HoldsTheSameFromSeparateProjections) {
  const std::string qkv = "linear_attn.in_proj_qkv.weight", z = "linear_attn.in_proj_z.weight",
                    b = "linear_attn.in_proj_b.weight", a = "linear_attn.in_proj_a.weight";
  for (const char* family : {"qwen3_5_text", "qwen3_5_moe_text"}) {
    const std::vector<std::vector<Row>> own = {run(qkv, 4, 4), run(qkv, 12, 4), run(qkv, 20, 4), run(z, 4, 4)},
                                        rates = {run(b, 4, 4), run(a, 4, 4)};
    const Memory server = memory_on(tiny_hybrid(family), "vllm:tp=2", 1);
    expect_rows(server, in_layer(0, "linear_attn.in_proj_qkvz.weight"), joined(own), {2});
    expect_rows(server, in_layer(0, "linear_attn.in_proj_ba.weight"), joined(rates), {2});
    const Memory trainer = megatron_memory(tiny_hybrid(family), "megatron:tp=2", 1);
    expect_rows(trainer, "decoder.layers.0.self_attention.in_proj.weight", joined({joined(own), joined(rates)}), {2});
  }
}

TEST(SemanticsTest, Row17_GatedAttentionOfQwen3Next) {
  // q_proj: of every head 2 rows of q, then 2 of its gate. Megatron: both heads of a group, their gates, k, v.
  const Memory memory = megatron_memory(tiny_hybrid("qwen3_next"), "megatron:tp=2", 1);
  const std::string q = "self_attn.q_proj.weight", k = "self_attn.k_proj.weight", v = "self_attn.v_proj.weight";
  const std::vector<Row> rows =
      joined({run(q, 8, 2), run(q, 12, 2), run(q, 10, 2), run(q, 14, 2), run(k, 2, 2), run(v, 2, 2)});
  expect_buffer(memory, "decoder.layers.1.self_attention.linear_qkv.weight", {12, 2}, [&](const Index& i) {
    const Row& row = rows[static_cast<std::size_t>(i[0])];
    return Element{in_layer(1, row.tensor), {row.row, i[1]}};
  });
}

TEST(HybridFamiliesTest, BiasesOfGatedAttentionLieAsTheirWeightsAndServersHaveNone) {
  const Json config = changed(tiny_hybrid("qwen3_next"), {{"attention_bias", true}});
  const Memory memory = megatron_memory(config, "megatron:tp=2", 1);
  const std::string q = "self_attn.q_proj.bias", k = "self_attn.k_proj.bias", v = "self_attn.v_proj.bias";
  const std::vector<Row> rows =
      joined({run(q, 8, 2), run(q, 12, 2), run(q, 10, 2), run(q, 14, 2), run(k, 2, 2), run(v, 2, 2)});
  expect_buffer(memory, "decoder.layers.1.self_attention.linear_qkv.bias", {12}, [&](const Index& i) {
    const Row& row = rows[static_cast<std::size_t>(i[0])];
    return Element{in_layer(1, row.tensor), {row.row}};
  });
  for (const auto& [name, elements] : memory_on(config, "vllm", 0).buffers)
    EXPECT_FALSE(name.ends_with(".bias")) << name;
}

TEST(HybridFamiliesTest, ValuesThatMegatronHoldsOtherwiseAreRefused) {
  EXPECT_THAT(error_of(tiny_hybrid("qwen3_next"), "megatron"),
              AllOf(HasSubstr("model.layers.0.linear_attn.norm.weight"), HasSubstr("less one"), HasSubstr(kNorm)));
}

TEST(HybridFamiliesTest, StagesOfQwenHoldWhatVllmMakesOnEach) {
  const auto held = [](const std::string& family, std::int32_t stage) {
    const Memory memory = memory_on(tiny_hybrid(family), "vllm:pp=2", stage);
    std::string names;
    for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}) {
      names += std::to_string(memory.buffers.count(name));
    }
    return names;
  };
  EXPECT_EQ(held("qwen3_next", 0) + " " + held("qwen3_next", 1), "101 111");
  EXPECT_EQ(held("qwen3_5_text", 0) + " " + held("qwen3_5_text", 1), "100 111");
}

TEST(HybridFamiliesTest, LayersOfUnknownOrMissingKindAreNamed) {
  const Json config = tiny_hybrid("qwen3_next");
  EXPECT_THAT(error_of(changed(config, {{"layer_types", {"linear_attention", "sliding_attention"}}}), "vllm"),
              HasSubstr("layer_types is \"sliding_attention\", expected linear_attention or full_attention"));
  EXPECT_THAT(error_of(changed(config, {{"layer_types", {"full_attention"}}}), "vllm"), HasSubstr("2 strings"));
  EXPECT_THAT(error_of(changed(config, {{"linear_num_key_heads", 3}}), "vllm"),
              HasSubstr("linear_num_key_heads = 3 does not divide linear_num_value_heads = 8"));
  // Without layer_types every fourth layer has full attention.
  Json silent = changed(config, {{"num_hidden_layers", 4}});
  silent.erase("layer_types");
  const Memory memory = memory_on(silent, "checkpoint", 0);
  EXPECT_EQ(memory.buffers.count(in_layer(2, "linear_attn.A_log")), 1U);
  EXPECT_EQ(memory.buffers.count(in_layer(3, "self_attn.q_proj.weight")), 1U);
}

// ---- Kimi-Linear: 4 heads of 2 in layer 0, latent attention in layer 1

Json tiny_kimi_linear() {
  return changed(tiny_deepseek(), {{"model_type", "kimi_linear"},
                                   {"num_hidden_layers", 2},
                                   {"q_lora_rank", nullptr},
                                   {"min_moe_intermediate_per_partition", 1},
                                   {"linear_attn_config",
                                    {{"kda_layers", {1}},
                                     {"full_attn_layers", {2}},
                                     {"head_dim", 2},
                                     {"num_heads", 4},
                                     {"short_conv_kernel_size", 3}}}});
}

TEST(HybridFamiliesTest, KimiHoldsOneProjectionOnServersWithTheSharedRankOnEachOfThem) {
  const auto own = [](const std::string& name, std::int64_t rank) {
    return run("self_attn." + name + ".weight", 4 * rank, 4);
  };
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_on(tiny_kimi_linear(), "vllm:tp=2", static_cast<std::int32_t>(rank));
    expect_rows(memory, in_layer(0, "self_attn.in_proj_qkvgfab.weight"),
                joined({own("q_proj", rank), own("k_proj", rank), own("v_proj", rank),
                        run("self_attn.b_proj.weight", 2 * rank, 2), run("self_attn.f_a_proj.weight", 0, 2)}),
                {2});
    expect_rows(memory, in_layer(0, "self_attn.conv1d.weight"),
                joined({own("q_conv1d", rank), own("k_conv1d", rank), own("v_conv1d", rank)}), {1, 3});
    expect_rows(memory, in_layer(0, "self_attn.f_b_proj.weight"), own("f_b_proj", rank), {2});
    expect_rows(memory, in_layer(0, "self_attn.g_a_proj.weight"), run("self_attn.g_a_proj.weight", 0, 2), {2});
  }
  EXPECT_EQ(type_of(tiny_kimi_linear(), "vllm", in_layer(0, "self_attn.conv1d.weight")), DType::kF32);
}

TEST(HybridFamiliesTest, KimiOfTransformers5HasOneConvolution) {
  // 24 rows over 5 ranks by torch.chunk: 5, 5, 5, 5, 4.
  const Memory memory = memory_on(tiny_kimi_linear(), "fsdp:shard=5", 4);
  expect_rows(memory, in_layer(0, "self_attn.conv1d.weight"), run("self_attn.v_conv1d.weight", 4, 4), {1, 3});
  EXPECT_EQ(memory.buffers.count(in_layer(0, "self_attn.forget_gate.A_log")), 1U);
}

TEST(HybridFamiliesTest, WhatKimiCannotHaveIsRefusedByName) {
  const Json config = tiny_kimi_linear();
  EXPECT_THAT(error_of(config, "megatron"), HasSubstr("no module for Kimi's delta attention of kimi_linear"));
  EXPECT_THAT(error_of(changed(config, {{"min_moe_intermediate_per_partition", nullptr}}), "vllm:tp=2"),
              AllOf(HasSubstr("2 of an expert's width"), HasSubstr("pads to 256"), HasSubstr("use ep")));
  EXPECT_EQ(layout_of(changed(config, {{"min_moe_intermediate_per_partition", nullptr}}), "vllm:tp=2,ep=2").num_ranks(),
            2);
  Json torn = config;
  torn["linear_attn_config"]["full_attn_layers"] = {1};
  EXPECT_THAT(error_of(torn, "checkpoint"), HasSubstr("layer 1 is more than once in of kda_layers"));
  torn["linear_attn_config"]["full_attn_layers"] = Json::array();
  EXPECT_THAT(error_of(torn, "checkpoint"), HasSubstr("layer 2 is in neither of kda_layers"));
}

// ---- gpt-oss: 3 experts of width 4, 4 heads of 1

Json tiny_gpt_oss() {
  return changed(tiny_llama(), {{"model_type", "gpt_oss"},
                                {"num_attention_heads", 4},
                                {"num_key_value_heads", 2},
                                {"num_local_experts", 3},
                                {"intermediate_size", 4}});
}

Element in_experts(const std::string& name, Index index) {
  return {in_layer(0, "mlp.experts." + name), std::move(index)};
}

TEST(MoeFamiliesTest, GptOssHasGateAndUpInTurnsAndOneBiasBehindItsExperts) {
  const std::string held = in_layer(0, "mlp.experts.routed_experts.");
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_on(tiny_gpt_oss(), "vllm:tp=2", static_cast<std::int32_t>(rank));
    expect_buffer(memory, held + "w13_weight", {3, 4, 2}, [&](const Index& i) {
      return in_experts("gate_up_proj", {i[0], i[2], 4 * rank + i[1]});
    });
    expect_buffer(memory, held + "w13_bias", {3, 4}, [&](const Index& i) {
      return in_experts("gate_up_proj_bias", {i[0], 4 * rank + i[1]});
    });
    expect_buffer(memory, held + "w2_weight", {3, 2, 2}, [&](const Index& i) {
      return in_experts("down_proj", {i[0], 2 * rank + i[2], i[1]});
    });
    expect_buffer(memory, held + "w2_bias", {3, 2},
                  [&](const Index& i) { return rank == 0 ? in_experts("down_proj_bias", i) : kZero; });
    expect_rows(memory, in_layer(0, "attn.sinks"), run("self_attn.sinks", 2 * rank, 2), {});
    EXPECT_EQ(memory.buffers.count("model.embedding.weight"), 1U);
  }
  // Where ranks have whole experts, each adds their bias.
  const Memory memory = memory_on(tiny_gpt_oss(), "vllm:ep=3", 2);
  expect_buffer(memory, held + "w2_bias", {1, 2}, [&](const Index& i) {
    return in_experts("down_proj_bias", {2, i[1]});
  });
}

TEST(SemanticsTest, Row33_StackedAndTurnedExpertsAreTakenApartForMegatron) {
  // Gates of gate_up_proj [3, 2, 8] are its even columns, ups the odd ones.
  const Memory memory = memory_on(tiny_gpt_oss(), "megatron:dp=3,ep=3", 2);
  const std::string experts = "decoder.layers.0.mlp.experts.";
  const auto column = [](std::int64_t row) { return row < 4 ? 2 * row : 2 * (row - 4) + 1; };
  expect_buffer(memory, experts + "linear_fc1.weight0", {8, 2}, [&](const Index& i) {
    return in_experts("gate_up_proj", {2, i[1], column(i[0])});
  });
  expect_buffer(memory, experts + "linear_fc1.bias0", {8}, [&](const Index& i) {
    return in_experts("gate_up_proj_bias", {2, column(i[0])});
  });
  expect_buffer(memory, experts + "linear_fc2.weight0", {2, 4}, [&](const Index& i) {
    return in_experts("down_proj", {2, i[1], i[0]});
  });
  expect_buffer(memory, experts + "linear_fc2.bias0", {2}, [&](const Index& i) {
    return in_experts("down_proj_bias", {2, i[0]});
  });
  EXPECT_EQ(memory.buffers.count("decoder.layers.0.self_attention.core_attention.softmax_offset"), 1U);
  EXPECT_THAT(error_of(tiny_gpt_oss(), "megatron:tp=2,etp=2"), HasSubstr("etp must be 1"));
}

TEST(SemanticsTest, Row34_ExpertsThatTheCheckpointStacksStayAsTheyAreUnderFsdp) {
  // 3 experts over 2 ranks: 2 and 1, in either version of transformers.
  for (const char* text : {"fsdp:shard=2", "fsdp:shard=2,experts=each"}) {
    const Memory memory = memory_on(tiny_gpt_oss(), text, 1);
    expect_buffer(memory, in_layer(0, "mlp.experts.gate_up_proj"), {1, 2, 8}, [&](const Index& i) {
      return in_experts("gate_up_proj", {2, i[1], i[2]});
    });
    expect_buffer(memory, in_layer(0, "mlp.experts.down_proj_bias"), {1, 2}, [&](const Index& i) {
      return in_experts("down_proj_bias", {2, i[1]});
    });
  }
}

TEST(MoeFamiliesTest, StackedExpertsAreNotQuantisedInSilence) {
  EXPECT_THAT(error_of(tiny_gpt_oss(), "vllm:quant=channel"),
              AllOf(HasSubstr("mlp.experts.gate_up_proj is stored [in, out]"), HasSubstr("leave quant out")));
}

// ---- Llama-4: 4 heads of 4, 2 of keys; experts of width 4 in every second layer

Json tiny_llama4() {
  return changed(tiny_llama(), {{"model_type", "llama4_text"},
                                {"num_attention_heads", 4},
                                {"num_key_value_heads", 2},
                                {"head_dim", 4},
                                {"num_local_experts", 2},
                                {"intermediate_size", 4},
                                {"intermediate_size_mlp", 8},
                                {"interleave_moe_layer_step", 2}});
}

TEST(MoeFamiliesTest, Llama4DealsRowsOfHeadsOutOnServersOnly) {
  const std::string q = "self_attn.q_proj.weight", k = "self_attn.k_proj.weight", v = "self_attn.v_proj.weight";
  // Even rows of a head, then the odd ones; v as it is. Rank 1 has heads 2 and 3 and key head 1.
  std::vector<Row> rows;
  for (const auto& [tensor, head] : {std::pair{q, 2}, {q, 3}, {k, 1}}) {
    for (const std::int64_t row : {0, 2, 1, 3}) rows.push_back({tensor, 4 * head + row});
  }
  expect_rows(memory_on(tiny_llama4(), "vllm:tp=2", 1), in_layer(0, "self_attn.qkv_proj.weight"),
              joined({rows, run(v, 4, 4)}), {2});
  expect_rows(memory_on(tiny_llama4(), "megatron:tp=2", 1), "decoder.layers.0.self_attention.linear_qkv.weight",
              joined({run(q, 8, 8), run(k, 4, 4), run(v, 4, 4)}), {2});
}

TEST(MoeFamiliesTest, Llama4HasExpertsInTheLayersThatItNames) {
  const auto has_experts = [](const Json& config) {
    const Memory memory = memory_on(config, "checkpoint", 0);
    std::string text;
    for (const std::int64_t layer : {0, 1}) {
      text += std::to_string(memory.buffers.count(in_layer(layer, "feed_forward.experts.gate_up_proj")));
    }
    return text;
  };
  EXPECT_EQ(has_experts(tiny_llama4()), "01");
  EXPECT_EQ(has_experts(changed(tiny_llama4(), {{"moe_layers", {0}}})), "10");
  // Gate columns of a rank, then its up columns, as rows.
  expect_buffer(
      memory_on(tiny_llama4(), "vllm:tp=2", 1), in_layer(1, "feed_forward.experts.routed_experts.w13_weight"),
      {2, 4, 2}, [&](const Index& i) {
        return Element{in_layer(1, "feed_forward.experts.gate_up_proj"), {i[0], i[2], i[1] < 2 ? 2 + i[1] : 4 + i[1]}};
      });
}

// ---- DeepSeek-V3.2, MiniMax-M2, Hunyuan, ERNIE-4.5

TEST(MoeFamiliesTest, TheIndexerOfDeepSeekIsWholeEverywhere) {
  const Json config =
      changed(tiny_deepseek(), {{"model_type", "deepseek_v32"}, {"index_n_heads", 3}, {"index_head_dim", 2}});
  const std::string indexer = "self_attn.indexer.";
  const Memory server = memory_on(config, "vllm:tp=4", 3), trainer = memory_on(config, "megatron:tp=4", 3);
  expect_rows(server, in_layer(0, indexer + "wk_weights_proj.weight"),
              joined({run(indexer + "wk.weight", 0, 2), run(indexer + "weights_proj.weight", 0, 3)}), {2});
  expect_rows(server, in_layer(0, indexer + "wq_b.weight"), run(indexer + "wq_b.weight", 0, 6), {3});
  expect_rows(trainer, "decoder.layers.0.self_attention.core_attention.indexer.linear_wq_b.weight",
              run(indexer + "wq_b.weight", 0, 6), {3});
  EXPECT_EQ(type_of(config, "vllm", in_layer(0, indexer + "k_norm.bias")), DType::kF32);
  EXPECT_THAT(error_of(changed(config, {{"q_lora_rank", nullptr}}), "vllm"),
              HasSubstr("q_lora_rank is null, but the indexer"));
}

TEST(MoeFamiliesTest, MiniMaxCutsItsNormsWithTheHeads) {
  const Json config = changed(tiny_llama(), {{"model_type", "minimax_m2"}, {"num_local_experts", 2}});
  // 8 heads in 4 groups on 8 ranks: keys are repeated, and so is their norm.
  const Memory memory = memory_on(config, "vllm:tp=8", 5);
  expect_rows(memory, in_layer(0, "self_attn.q_norm.weight"), run("self_attn.q_norm.weight", 5, 1), {});
  expect_rows(memory, in_layer(0, "self_attn.k_norm.weight"), run("self_attn.k_norm.weight", 2, 1), {});
  const std::string router = in_layer(0, "block_sparse_moe.gate.weight");
  EXPECT_EQ(type_of(config, "vllm", router), DType::kF32);
  EXPECT_EQ(type_of(config, "checkpoint", router), DType::kBF16);
  EXPECT_THAT(error_of(config, "megatron"), HasSubstr("no module for a norm over all heads of q of minimax_m2"));
}

TEST(MoeFamiliesTest, RoutersHaveTheTypeOfTheirSide) {
  const Json hunyuan = changed(tiny_llama(), {{"model_type", "hunyuan_v1_moe"}, {"num_experts", 2}});
  const std::string router = in_layer(0, "mlp.gate.wg.weight");
  EXPECT_EQ(type_of(hunyuan, "checkpoint", router), DType::kF32);
  EXPECT_EQ(type_of(hunyuan, "vllm", router), DType::kBF16);
  EXPECT_EQ(type_of(hunyuan, "vllm:dtype=f16", router), DType::kF16);
}

Json tiny_ernie() {
  return changed(tiny_llama(), {{"model_type", "ernie4_5_moe"},
                                {"num_hidden_layers", 5},
                                {"tie_word_embeddings", nullptr},
                                {"moe_num_experts", 2},
                                {"moe_intermediate_size", 4},
                                {"moe_layer_start_index", 1},
                                {"moe_layer_interval", 2},
                                {"moe_layer_end_index", 2}});
}

TEST(MoeFamiliesTest, ErnieHasExpertsFromItsFirstToItsLastLayerOfThem) {
  const Memory memory = memory_on(tiny_ernie(), "checkpoint", 0);
  for (std::int64_t layer = 0; layer < 5; ++layer) {
    EXPECT_EQ(memory.buffers.count(in_layer(layer, "mlp.gate.weight")), layer == 1 ? 1U : 0U) << layer;
  }
  EXPECT_EQ(memory_on(tiny_ernie(), "vllm", 0).buffers.count(in_layer(1, "mlp.gate.e_score_correction_bias")), 1U);
  EXPECT_THAT(error_of(tiny_ernie(), "vllm:pp=2"), HasSubstr("pp must be 1"));
}

TEST(MoeFamiliesTest, ServersHaveErniesBiasesOfQkvAndOfDenseMlpsAlone) {
  const Json config = changed(tiny_ernie(), {{"use_bias", true}, {"moe_num_shared_experts", 1}});
  const auto biases_of = [&](const std::string& text) {
    std::set<std::string> biases;
    for (const auto& [name, elements] : memory_on(config, text, 0).buffers) {
      if (name.ends_with(".bias") && name.find("layers.") == std::string::npos) biases.insert(name);
      for (const std::int64_t layer : {0, 1}) {  // dense, and with experts
        if (name.ends_with(".bias") && name.starts_with(in_layer(layer, ""))) biases.insert(name.substr(13));
      }
    }
    return biases;
  };
  EXPECT_EQ(biases_of("vllm"), (std::set<std::string>{"0.self_attn.qkv_proj.bias", "1.self_attn.qkv_proj.bias",
                                                      "0.mlp.gate_up_proj.bias", "0.mlp.down_proj.bias"}));
  // In files: four of attention and three of an MLP in each, and that of the output layer.
  const std::set<std::string> biases = biases_of("checkpoint");
  EXPECT_EQ(biases.size(), 2U * 7 + 1);
  EXPECT_EQ(biases.count("1.mlp.shared_experts.down_proj.bias") + biases.count("lm_head.bias"), 2U);
  EXPECT_THAT(error_of(config, "megatron"), HasSubstr("no module for a bias of the output layer of ernie4_5_moe"));
}

// ---- what a family or its server cannot have

TEST(MoeFamiliesTest, ExpertsAreDoubledOnlyWhereVllmCan) {
  const Json minimax = changed(tiny_llama(), {{"model_type", "minimax_m2"}, {"num_local_experts", 2}});
  const Json qwen = changed(tiny_qwen3_moe(), {{"model_type", "qwen2_moe"}, {"shared_expert_intermediate_size", 4}});
  for (const Json& config : {minimax, qwen, tiny_gpt_oss(), tiny_llama4(), tiny_kimi_linear()}) {
    const std::string family = config["model_type"];
    EXPECT_THAT(error_of(config, "vllm:ep=1,redundant=2"), AllOf(HasSubstr("redundant = 2"), HasSubstr(family)));
    EXPECT_THAT(error_of(config, "vllm:ep=1,eplb=table.json"), AllOf(HasSubstr("eplb doubles"), HasSubstr(family)));
  }
}

TEST(MoeFamiliesTest, KeysOfLatentAttentionNeedIt) {
  EXPECT_THAT(error_of(tiny_llama(), "megatron:mla_up=split"),
              HasSubstr("mla_up needs latent attention, llama has none"));
  const Json config = changed(tiny_deepseek(), {{"q_lora_rank", nullptr}});
  EXPECT_THAT(error_of(config, "megatron:mla_up=split"),
              AllOf(HasSubstr("mla_up=split needs"), HasSubstr("q_lora_rank")));
  EXPECT_THAT(error_of(config, "megatron:mla_down=fused"), HasSubstr("mla_down=fused needs a low rank of q"));
}

TEST(MoeFamiliesTest, AnUnknownFamilyIsToldThoseWithNamesLikeIt) {
  const auto near = [](const char* model_type) {
    const std::string message = error_of(changed(tiny_llama(), {{"model_type", model_type}}), "checkpoint");
    const std::size_t begin = message.find("near are ");
    return begin == std::string::npos ? "" : message.substr(begin, message.find(';', begin) - begin);
  };
  EXPECT_EQ(near("qwen3_nxet"), "near are qwen3, qwen3_next");
  EXPECT_THAT(near("deepseek"), AllOf(HasSubstr("deepseek_v2"), HasSubstr("deepseek_v32")));
  EXPECT_EQ(near("parrot"), "");
}

}  // namespace
}  // namespace reshard
