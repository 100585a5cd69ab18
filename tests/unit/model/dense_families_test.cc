// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// What is special about one family, in closed forms: which row of which checkpoint tensor lies where.

#include <gtest/gtest.h>

#include <functional>

#include "memory.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Row r of a buffer is row `row_of(r)` of a checkpoint tensor with the same columns.
void expect_rows(const Json& config, const std::string& text, std::int32_t rank, const std::string& buffer,
                 const Index& shape, const std::string& tensor,
                 const std::function<std::int64_t(std::int64_t row)>& row_of) {
  const Memory memory = memory_of(layout_of(config, text), rank);
  EXPECT_EQ(memory.defect, "") << text << " rank " << rank;
  expect_buffer(memory, buffer, shape, [&](const Index& i) {
    return shape.size() == 1 ? Element{tensor, {row_of(i[0])}} : Element{tensor, {row_of(i[0]), i[1]}};
  });
}

// ---- GPT-2 and GPT-BigCode: 4 heads of 2, 3 positions

Json tiny_gpt(const std::string& model_type) {
  return {{"model_type", model_type}, {"n_embd", 8},     {"n_head", 4}, {"n_layer", 2},
          {"n_positions", 3},         {"vocab_size", 10}};
}

TEST(DenseFamiliesTest, Gpt2IsTurnedForServersAndKeepsItsNames) {
  // c_attn [8, 24]: columns 0 to 7 are q, 8 to 15 k, 16 to 23 v; a server of 2 ranks holds 4 of each, as rows.
  const std::string c_attn = "transformer.h.1.attn.c_attn.weight";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout_of(tiny_gpt("gpt2"), "vllm:tp=2"), static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    expect_buffer(memory, c_attn, {12, 8}, [&](const Index& i) {
      return Element{c_attn, {i[1], i[0] / 4 * 8 + rank * 4 + i[0] % 4}};
    });
  }
  // Embeddings and the last norm are on every stage.
  const Memory last = memory_of(layout_of(tiny_gpt("gpt2"), "vllm:pp=2"), 1);
  EXPECT_EQ(last.buffers.count("transformer.wpe.weight"), 1U);
  EXPECT_EQ(last.buffers.count("transformer.h.0.ln_1.weight"), 0U);
}

TEST(DenseFamiliesTest, GptBigcodeRepeatsItsOneKeyHeadAndItsMlpOnServers) {
  // c_attn: 8 rows of q, 2 of k, 2 of v. A rank of 2 has 4 of q, and both k and v.
  const Json config = tiny_gpt("gpt_bigcode");
  const std::string file = "transformer.h.0.", held = "model.h.0.";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto row_of = [&](std::int64_t r) { return r < 4 ? rank * 4 + r : r + 4; };
    expect_rows(config, "vllm:tp=2", static_cast<std::int32_t>(rank), held + "attn.c_attn.weight", {8, 8},
                file + "attn.c_attn.weight", row_of);
    expect_rows(config, "vllm:tp=2", static_cast<std::int32_t>(rank), held + "attn.c_attn.bias", {8},
                file + "attn.c_attn.bias", row_of);
    expect_rows(config, "vllm:tp=2", static_cast<std::int32_t>(rank), held + "mlp.c_fc.weight", {32, 8},
                file + "mlp.c_fc.weight", [](std::int64_t r) { return r; });
  }
  // Megatron cuts the rows of its one group evenly, wherever that falls: 12 rows over 4 ranks.
  expect_rows(config, "megatron:tp=4", 2, "decoder.layers.0.self_attention.linear_qkv.weight", {3, 8},
              file + "attn.c_attn.weight", [](std::int64_t r) { return 6 + r; });
}

TEST(DenseFamiliesTest, GptBigcodeOfManyHeadsHasThemOneByOne) {
  // Rows: q, k, v of head 0, of head 1, ...; that is Megatron's own order, and a server cuts nothing.
  Json config = tiny_gpt("gpt_bigcode");
  config["multi_query"] = false;
  const std::string c_attn = "attn.c_attn.weight";
  expect_rows(config, "megatron:tp=2", 1, "decoder.layers.1.self_attention.linear_qkv.weight", {12, 8},
              "transformer.h.1." + c_attn, [](std::int64_t r) { return 12 + r; });
  expect_rows(config, "vllm:tp=2", 1, "model.h.1." + c_attn, {24, 8}, "transformer.h.1." + c_attn,
              [](std::int64_t r) { return r; });
}

TEST(DenseFamiliesTest, StarCoderHasItsPublishedSize) {
  Json config = {{"model_type", "gpt_bigcode"}, {"n_embd", 6144},   {"n_head", 48},        {"n_layer", 40},
                 {"n_positions", 8192},         {"n_inner", 24576}, {"multi_query", true}, {"vocab_size", 49152}};
  EXPECT_EQ(num_parameters(config), 15'517'456'384);
}

// ---- InternLM: 4 heads of 1 in 2 groups

Json tiny_internlm2() {
  return {{"model_type", "internlm2"}, {"hidden_size", 4},         {"intermediate_size", 4}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4},  {"num_key_value_heads", 2}, {"vocab_size", 10},       {"bias", false}};
}

TEST(DenseFamiliesTest, InternLm2HasItsHeadsInGroups) {
  // wqkv: q0 q1 k0 v0 q2 q3 k1 v1. Megatron has the same rows.
  const std::string wqkv = "model.layers.1.attention.wqkv.weight";
  expect_rows(tiny_internlm2(), "megatron:tp=2", 1, "decoder.layers.1.self_attention.linear_qkv.weight", {4, 4}, wqkv,
              [](std::int64_t r) { return 4 + r; });
  // More ranks than groups: two rows each.
  expect_rows(tiny_internlm2(), "megatron:tp=4", 3, "decoder.layers.1.self_attention.linear_qkv.weight", {2, 4}, wqkv,
              [](std::int64_t r) { return 6 + r; });
  // A server cuts it as if it had 4 rows of q, 2 of k, 2 of v: rank 1 has rows 2 and 3, 5, 7.
  expect_rows(tiny_internlm2(), "vllm:tp=2", 1, wqkv, {4, 4}, wqkv, [](std::int64_t r) {
    return Index{2, 3, 5, 7}[static_cast<std::size_t>(r)];
  });
  // And repeats those that it takes for k and v: rank 1 of 4 has rows 1, 4, 6.
  expect_rows(tiny_internlm2(), "vllm:tp=4", 1, wqkv, {3, 4}, wqkv, [](std::int64_t r) {
    return Index{1, 4, 6}[static_cast<std::size_t>(r)];
  });
}

TEST(DenseFamiliesTest, InternLm2HasItsPublishedSize) {
  EXPECT_EQ(num_parameters({{"model_type", "internlm2"},
                            {"hidden_size", 4096},
                            {"intermediate_size", 14336},
                            {"num_hidden_layers", 32},
                            {"num_attention_heads", 32},
                            {"num_key_value_heads", 8},
                            {"vocab_size", 92544},
                            {"bias", false}}),
            7'737'708'544);
}

TEST(DenseFamiliesTest, InternLmHasBiasesOfAttentionUnlessToldOtherwise) {
  Json config = tiny_llama();
  config["model_type"] = "internlm";
  const std::int64_t with = num_parameters(config);
  config["bias"] = false;
  const std::int64_t without = num_parameters(config);
  config["model_type"] = "aquila";
  EXPECT_EQ(num_parameters(config), without);
  const std::int64_t heads = config["num_attention_heads"], kv_heads = config["num_key_value_heads"],
                     head_dim = config["head_dim"], hidden = config["hidden_size"],
                     layers = config["num_hidden_layers"];
  EXPECT_EQ(with - without, layers * ((heads + 2 * kv_heads) * head_dim + hidden));
}

TEST(DenseFamiliesTest, ServersHaveNoneOfTheBiasesOfInternLm2) {
  const Json config = changed(tiny_internlm2(), {{"bias", true}});
  EXPECT_EQ(memory_of(layout_of(config, "checkpoint"), 0).buffers.count(in_layer(0, "attention.wo.bias")), 1U);
  for (const auto& [name, elements] : memory_of(layout_of(config, "vllm"), 0).buffers) {
    EXPECT_FALSE(name.ends_with(".bias")) << name;
  }
}

// ---- Others

TEST(DenseFamiliesTest, ServersOfGlmCutGateAndUpAsOne) {
  // gate_up_proj [16, 2] over 4 ranks: rank 0 and 1 have gate only, 2 and 3 up only. Megatron has of both on each.
  Json config = tiny_llama();
  config["model_type"] = "glm";
  const std::string name = in_layer(0, "mlp.gate_up_proj.weight");
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    expect_rows(config, "vllm:tp=4", static_cast<std::int32_t>(rank), name, {4, 2}, name,
                [&](std::int64_t r) { return rank * 4 + r; });
    expect_rows(config, "megatron:tp=4", static_cast<std::int32_t>(rank), "decoder.layers.0.mlp.linear_fc1.weight",
                {4, 2}, name, [&](std::int64_t r) { return r / 2 * 8 + rank * 2 + r % 2; });
  }
}

TEST(DenseFamiliesTest, ErnieTiesItsEmbeddingsAndServersHaveNoneOfItsBiases) {
  Json config = tiny_llama();
  config["model_type"] = "ernie4_5";
  config["use_bias"] = true;
  config.erase("tie_word_embeddings");
  EXPECT_EQ(memory_of(layout_of(config, "checkpoint"), 0).buffers.count("lm_head.weight"), 0U);
  EXPECT_EQ(memory_of(layout_of(config, "checkpoint"), 0).buffers.count(in_layer(0, "mlp.up_proj.bias")), 1U);
  for (const auto& [name, elements] : memory_of(layout_of(config, "vllm"), 0).buffers) {
    EXPECT_FALSE(name.ends_with("bias")) << name;
  }
}

}  // namespace
}  // namespace reshard
