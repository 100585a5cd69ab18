// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// vLLM's local parameters: recorded facts and worked numbers.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "memory.h"
#include "src/model/model.h"
#include "tests/unit/temporary_file.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::string>;

/// The blocks of a tensor on a rank of a published model.
std::vector<Block> blocks_of(const std::string& model, const std::string& text, std::int32_t rank,
                             const std::string& tensor) {
  Result<ModelLayout> layout = make_model_layout(published_config(model), text);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return layout.ok() ? layout->blocks(rank, layout->find_tensor(tensor)) : std::vector<Block>();
}

void expect_rows(const std::string& tensor, std::int64_t begin, std::int64_t end, std::int64_t offset_elements) {
  const std::vector<Block> blocks = blocks_of("Qwen3-0.6B", "vllm:tp=2", 1, tensor);
  ASSERT_EQ(blocks.size(), 1U) << tensor;
  EXPECT_EQ(blocks[0].box.begin[0], begin) << tensor;
  EXPECT_EQ(blocks[0].box.end[0], end) << tensor;
  EXPECT_EQ(blocks[0].offset_bytes, 2 * offset_elements) << tensor;
}

// Recorded from the weight loaders of vLLM 0.32.
TEST(VllmTest, Qwen3RankOneOfTwoIsAsRecordedFromVllm) {
  expect_rows(in_layer(0, "self_attn.q_proj.weight"), 1024, 2048, 0);
  expect_rows(in_layer(0, "self_attn.k_proj.weight"), 512, 1024, 1'048'576);
  expect_rows(in_layer(0, "self_attn.v_proj.weight"), 512, 1024, 1'572'864);
  expect_rows(in_layer(0, "mlp.gate_proj.weight"), 1536, 3072, 0);
  expect_rows(in_layer(0, "mlp.up_proj.weight"), 1536, 3072, 1'572'864);
  const std::vector<Block> o_proj = blocks_of("Qwen3-0.6B", "vllm:tp=2", 1, in_layer(0, "self_attn.o_proj.weight"));
  ASSERT_EQ(o_proj.size(), 1U);
  EXPECT_EQ(o_proj[0].box.begin[1], 1024);
  EXPECT_EQ(o_proj[0].box.end[1], 2048);
  EXPECT_EQ(o_proj[0].strides_bytes[0], 2 * 1024);
}

/// The rows of the embedding on the last of tp ranks: {elements, zeros}.
std::pair<std::int64_t, std::int64_t> last_vocab_rows(std::int64_t vocab_size, std::int32_t tp) {
  Json config = tiny_llama();
  config["vocab_size"] = vocab_size;
  const Memory memory = memory_of(layout_of(config, fmt::format("vllm:tp={}", tp)), tp - 1);
  EXPECT_EQ(memory.defect, "");
  const std::vector<Element>& elements = memory.buffers.at("lm_head.weight");
  const auto num_zeros = std::count(elements.begin(), elements.end(), kZero) / kTinyHidden;
  return {static_cast<std::int64_t>(elements.size()) / kTinyHidden - num_zeros, num_zeros};
}

TEST(VllmTest, VocabularyIsPaddedTo64WithZeros) {
  EXPECT_EQ(last_vocab_rows(1000, 2), std::pair(488L, 24L));  // recorded: rows 512 to 999, then 24 rows of zeros
  EXPECT_EQ(last_vocab_rows(32001, 2), std::pair(15969L, 63L));
  EXPECT_EQ(last_vocab_rows(50257, 4), std::pair(12529L, 47L));
  EXPECT_EQ(last_vocab_rows(10, 8), std::pair(0L, 8L));
}

TEST(VllmTest, ExpertsAreCutOverTensorParallelRanksWithoutEp) {
  Json config = tiny_qwen3_moe();  // recorded: w13 of expert 0 on rank 1 = gate[64:128], up[64:128] behind it
  config["moe_intermediate_size"] = 128;
  const ModelLayout layout = layout_of(config, "vllm:tp=2");
  const Block gate = layout.blocks(1, layout.find_tensor(in_layer(0, "mlp.experts.gate_proj.weight")))[0];
  const Block up = layout.blocks(1, layout.find_tensor(in_layer(0, "mlp.experts.up_proj.weight")))[0];
  EXPECT_EQ(gate.box.begin[1], 64);
  EXPECT_EQ(gate.box.end[1], 128);
  EXPECT_EQ(gate.offset_bytes, 0);
  EXPECT_EQ(up.box.begin[1], 64);
  EXPECT_EQ(up.offset_bytes, 64 * kTinyHidden * 2);
}

TEST(VllmTest, TwoRanksOfTensorParallelExpertsHoldOneGateAndUpRowEach) {
  Json config = tiny_qwen3_moe();
  config["moe_intermediate_size"] = 2;
  const ModelLayout layout = layout_of(config, "vllm:tp=2");
  const std::string w13 = in_layer(0, "mlp.experts.routed_experts.w13_weight");
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    expect_buffer(memory_of(layout, static_cast<std::int32_t>(rank)), w13, {4, 2, kTinyHidden}, [&](const Index& i) {
      return Element{in_layer(0, i[1] == 0 ? "mlp.experts.gate_proj.weight" : "mlp.experts.up_proj.weight"),
                     {i[0], rank, i[2]}};
    });
  }
}

Rows qkv_rows(const Json& config, std::int32_t tp, std::int32_t rank) {
  const Memory memory = memory_of(layout_of(config, fmt::format("vllm:tp={}", tp)), rank);
  EXPECT_EQ(memory.defect, "");
  return rows_of(memory, in_layer(0, "self_attn.qkv_proj.weight"), kTinyHidden);
}

TEST(VllmTest, QkvHoldsQueriesThenKeysThenValues) {
  EXPECT_EQ(qkv_rows(tiny_llama(), 1, 0),
            (Rows{"q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "k0", "k1", "k2", "k3", "v0", "v1", "v2", "v3"}));
  EXPECT_EQ(qkv_rows(tiny_llama(), 4, 1), (Rows{"q2", "q3", "k1", "v1"}));
}

TEST(VllmTest, KvHeadsAreRepeatedOverMoreRanksThanHeads) {
  Json config = tiny_llama();
  config["num_key_value_heads"] = 2;
  const std::vector<Rows> expected = {
      {"q0", "q1", "k0", "v0"}, {"q2", "q3", "k0", "v0"}, {"q4", "q5", "k1", "v1"}, {"q6", "q7", "k1", "v1"}};
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(qkv_rows(config, 4, rank), expected[static_cast<std::size_t>(rank)]);
  }
}

TEST(VllmTest, LlamaQkvOfFourRanksHasTheKnownSizes) {
  const std::string attn = "self_attn.";
  const auto count = [&](const std::string& proj) {
    return blocks_of("Meta-Llama-3.1-8B", "vllm:tp=4", 0, in_layer(0, attn + proj))[0].box.num_elements();
  };
  EXPECT_EQ(count("q_proj.weight"), 4'194'304);
  EXPECT_EQ(count("k_proj.weight"), 1'048'576);
  EXPECT_EQ(count("v_proj.weight"), 1'048'576);
}

TEST(VllmTest, RowParallelColumnsOfALargeProjection) {
  const Block block = blocks_of("Meta-Llama-3.1-8B", "vllm:tp=4", 2, in_layer(0, "self_attn.o_proj.weight"))[0];
  EXPECT_EQ(block.box.begin[1], 2048);
  EXPECT_EQ(block.box.end[1], 3072);
  EXPECT_EQ(block.strides_bytes[0], 2 * 1024);
}

TEST(VllmTest, LatentDownProjectionsAreOneBuffer) {
  const std::string text = "vllm:tp=8";
  const std::string q_a = in_layer(0, "self_attn.q_a_proj.weight");
  const std::string kv_a = in_layer(0, "self_attn.kv_a_proj_with_mqa.weight");
  const Block q = blocks_of("DeepSeek-V3", text, 5, q_a)[0], kv = blocks_of("DeepSeek-V3", text, 5, kv_a)[0];
  EXPECT_EQ(q.buffer, kv.buffer);
  EXPECT_EQ(q.offset_bytes, 0);
  EXPECT_EQ(q.box.end[0], 1536);
  EXPECT_EQ(kv.offset_bytes, 1536 * 7168 * 2);
  EXPECT_EQ(kv.box.end[0], 576);
  const Block q_b = blocks_of("DeepSeek-V3", text, 5, in_layer(0, "self_attn.q_b_proj.weight"))[0];
  EXPECT_EQ(q_b.box.begin[0], 5 * 16 * 192);
  EXPECT_EQ(q_b.box.end[0], 6 * 16 * 192);
}

/// The experts of a rank in slot order.
std::vector<std::int64_t> experts_of(const ModelLayout& layout, std::int32_t rank, std::int64_t layer = 0) {
  const Memory memory = memory_of(layout, rank);
  EXPECT_EQ(memory.defect, "");
  std::vector<std::int64_t> experts;
  const std::vector<Element>& elements = memory.buffers.at(in_layer(layer, "mlp.experts.routed_experts.w2_weight"));
  for (std::size_t at = 0; at < elements.size(); at += kTinyHidden * 8) experts.push_back(elements[at].index[0]);
  return experts;
}

using Experts = std::vector<std::int64_t>;

Json with_experts(std::int64_t num_experts) {
  Json config = tiny_qwen3_moe();
  config["num_experts"] = num_experts;
  return config;
}

TEST(VllmTest, ExpertsAreSpreadInOrderOverTensorAndDataParallelRanks) {
  const ModelLayout layout = layout_of(with_experts(16), "vllm:tp=2,ep=8");
  for (std::int32_t rank = 0; rank < 8; ++rank) EXPECT_EQ(experts_of(layout, rank), (Experts{2 * rank, 2 * rank + 1}));
}

TEST(VllmTest, UnevenExpertsGoToTheFirstRanks) {
  const ModelLayout layout = layout_of(with_experts(10), "vllm:ep=4");
  EXPECT_EQ(experts_of(layout, 0), (Experts{0, 1, 2}));
  EXPECT_EQ(experts_of(layout, 1), (Experts{3, 4, 5}));
  EXPECT_EQ(experts_of(layout, 2), (Experts{6, 7}));
  EXPECT_EQ(experts_of(layout, 3), (Experts{8, 9}));
}

TEST(VllmTest, RoundRobinDealsExpertsOut) {
  Json config = tiny_deepseek();
  config.update({{"n_routed_experts", 10}, {"n_group", 2}, {"moe_intermediate_size", 8}});
  for (const char* text :
       {"vllm:tp=4,ep=4,placement=round_robin", "vllm:tp=2,ep=4,placement=round_robin,all2all=deepep_low_latency",
        "vllm:ep=4,placement=round_robin,all2all=nixl_ep"}) {
    const ModelLayout layout = layout_of(config, text);
    EXPECT_EQ(experts_of(layout, 1, 1), (Experts{1, 5, 9})) << text;
    EXPECT_EQ(experts_of(layout, 3, 1), (Experts{3, 7})) << text;
  }
}

TEST(VllmTest, RoundRobinThatVllmWouldNotGrantIsAnError) {
  const auto expect_words = [](const std::string& message, const std::vector<std::string>& words) {
    for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  expect_words(error_of(with_experts(10), "vllm:ep=4,placement=round_robin,all2all=nixl_ep"),
               {"n_group", "qwen3_moe", "linearly"});
  Json config = tiny_deepseek();
  expect_words(error_of(config, "vllm:tp=2,ep=4,placement=round_robin"),
               {"dp = 2", "all2all=deepep_low_latency or nixl_ep", "allgather_reducescatter"});
  config["n_group"] = 1;  // as Kimi-K2
  expect_words(error_of(config, "vllm:tp=4,ep=4,placement=round_robin"), {"n_group", "has 1"});
  config["n_group"] = nullptr;
  expect_words(error_of(config, "vllm:tp=4,ep=4,placement=round_robin"), {"n_group", "has 0"});
}

TEST(VllmTest, SharedExpertsAreWholeWhereRanksTakeDifferentTokens) {
  Json config = tiny_deepseek();
  config["moe_intermediate_size"] = 8;
  struct Case {
    const char* text;
    bool is_whole;
  };
  for (const Case& c :
       {Case{"vllm:tp=2,ep=4", true}, Case{"vllm:tp=2,dp=2,ep=4,all2all=deepep_low_latency", true},
        Case{"vllm:tp=2,ep=4,all2all=flashinfer_nvlink_two_sided", false}, Case{"vllm:tp=2,ep=4,all2all=moonep", false},
        Case{"vllm:tp=2,dp=2", false}, Case{"vllm:tp=2,ep=2", false}}) {
    const ModelLayout layout = layout_of(config, c.text);
    const Memory memory = memory_of(layout, 1);
    EXPECT_EQ(memory.defect, "") << c.text;
    const std::int64_t width = c.is_whole ? 8 : 4, begin = c.is_whole ? 0 : 4;
    const std::string shared = in_layer(1, "mlp.shared_experts.");
    expect_buffer(memory, shared + "gate_up_proj.weight", {2 * width, kTinyHidden}, [&](const Index& i) {
      return Element{shared + (i[0] < width ? "gate_proj.weight" : "up_proj.weight"), {begin + i[0] % width, i[1]}};
    });
    expect_buffer(memory, shared + "down_proj.weight", {kTinyHidden, width}, [&](const Index& i) {
      return Element{shared + "down_proj.weight", {i[0], begin + i[1]}};
    });
    // Dense layers are cut in any case.
    EXPECT_EQ(memory.buffers.at(in_layer(0, "mlp.down_proj.weight")).size(), 8U) << c.text;
  }
}

/// The names of all buffers of a rank.
std::vector<std::string> names_of(const ModelLayout& layout, std::int32_t rank) {
  std::vector<std::string> names;
  for (const auto& [name, elements] : memory_of(layout, rank).buffers) names.push_back(name);
  return names;
}

TEST(VllmTest, EveryStageOfMixtralAndQwen3MoeHasEmbeddingNormAndOutputLayer) {
  for (Json config : {tiny_mixtral(), tiny_qwen3_moe()}) {
    config["num_hidden_layers"] = 3;
    for (const bool is_tied : {false, true}) {
      config["tie_word_embeddings"] = is_tied;
      const ModelLayout layout = layout_of(config, "vllm:pp=3");
      for (std::int32_t rank = 0; rank < 3; ++rank) {
        const Memory memory = memory_of(layout, rank);
        EXPECT_EQ(memory.defect, "");
        EXPECT_EQ(memory.buffers.count("model.embed_tokens.weight"), 1U);
        EXPECT_EQ(memory.buffers.count("model.norm.weight"), 1U);
        EXPECT_EQ(memory.buffers.count("lm_head.weight"), is_tied ? 0U : 1U);
      }
    }
  }
  const ModelLayout layout = layout_of(tiny_deepseek(), "vllm:pp=3");  // only the stages that need them
  for (std::int32_t rank = 0; rank < 3; ++rank) {
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.buffers.count("model.embed_tokens.weight"), rank == 0 ? 1U : 0U);
    EXPECT_EQ(memory.buffers.count("model.norm.weight"), rank == 2 ? 1U : 0U);
    EXPECT_EQ(memory.buffers.count("lm_head.weight"), rank == 2 ? 1U : 0U);
  }
}

TEST(VllmTest, BuffersHaveTheNamesThatVllmGivesThem) {
  // As its own models list them: tensor parallel size 1, one layer of each kind.
  Json config = tiny_mixtral();
  config["num_hidden_layers"] = 1;
  const std::string layer = "model.layers.0.", attention = layer + "self_attn.";
  EXPECT_THAT(names_of(layout_of(config, "vllm"), 0),
              testing::UnorderedElementsAre(
                  "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight", layer + "input_layernorm.weight",
                  layer + "post_attention_layernorm.weight", attention + "qkv_proj.weight", attention + "o_proj.weight",
                  layer + "block_sparse_moe.gate.weight", layer + "block_sparse_moe.experts.routed_experts.w13_weight",
                  layer + "block_sparse_moe.experts.routed_experts.w2_weight"));
  config = tiny_deepseek();
  config.update({{"num_hidden_layers", 1}, {"first_k_dense_replace", 0}});
  EXPECT_THAT(names_of(layout_of(config, "vllm"), 0),
              testing::UnorderedElementsAre(
                  "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight", layer + "input_layernorm.weight",
                  layer + "post_attention_layernorm.weight", attention + "fused_qkv_a_proj.weight",
                  attention + "q_a_layernorm.weight", attention + "q_b_proj.weight",
                  attention + "kv_a_layernorm.weight", attention + "kv_b_proj.weight", attention + "o_proj.weight",
                  layer + "mlp.gate.weight", layer + "mlp.gate.e_score_correction_bias",
                  layer + "mlp.experts.routed_experts.w13_weight", layer + "mlp.experts.routed_experts.w2_weight",
                  layer + "mlp.shared_experts.gate_up_proj.weight", layer + "mlp.shared_experts.down_proj.weight"));
  config["q_lora_rank"] = nullptr;
  config["first_k_dense_replace"] = 1;
  EXPECT_THAT(names_of(layout_of(config, "vllm"), 0),
              testing::UnorderedElementsAre("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight",
                                            layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight",
                                            attention + "q_proj.weight", attention + "kv_a_proj_with_mqa.weight",
                                            attention + "kv_a_layernorm.weight", attention + "kv_b_proj.weight",
                                            attention + "o_proj.weight", layer + "mlp.gate_up_proj.weight",
                                            layer + "mlp.down_proj.weight"));
  config = tiny_llama();
  config.update({{"model_type", "qwen3"}, {"num_hidden_layers", 1}});
  EXPECT_THAT(names_of(layout_of(config, "vllm"), 0),
              testing::UnorderedElementsAre("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight",
                                            layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight",
                                            attention + "qkv_proj.weight", attention + "q_norm.weight",
                                            attention + "k_norm.weight", attention + "o_proj.weight",
                                            layer + "mlp.gate_up_proj.weight", layer + "mlp.down_proj.weight"));
}

TEST(VllmTest, W1OfMixtralIsTheUpperAndW3TheLowerHalfOfW13) {
  const std::string moe = in_layer(0, "block_sparse_moe.experts.");
  const Memory memory = memory_of(layout_of(tiny_mixtral(), "vllm:tp=2"), 1);
  expect_buffer(memory, moe + "routed_experts.w13_weight", {4, 8, kTinyHidden}, [&](const Index& i) {
    return Element{moe + (i[1] < 4 ? "w1.weight" : "w3.weight"), {i[0], 4 + i[1] % 4, i[2]}};
  });
  expect_buffer(memory, moe + "routed_experts.w2_weight", {4, kTinyHidden, 4}, [&](const Index& i) {
    return Element{moe + "w2.weight", {i[0], i[1], 4 + i[2]}};
  });
}

TEST(VllmTest, QueriesWithoutLowRankAreCutByHeads) {
  Json config = tiny_deepseek();  // 4 heads of 2 + 1 rows
  config["q_lora_rank"] = nullptr;
  const Memory memory = memory_of(layout_of(config, "vllm:tp=2"), 1);
  EXPECT_EQ(memory.defect, "");
  const std::string q = in_layer(0, "self_attn.q_proj.weight"), kv = in_layer(0, "self_attn.kv_a_proj_with_mqa.weight");
  expect_buffer(memory, q, {6, kTinyHidden}, [&](const Index& i) { return Element{q, {6 + i[0], i[1]}}; });
  expect_buffer(memory, kv, {3, kTinyHidden}, [&](const Index& i) { return Element{kv, i}; });
}

TEST(VllmTest, CorrectionBiasExistsOnlyWhereTheConfigNamesItsMethod) {
  // Files always have it; vLLM makes the parameter only for topk_method = noaux_tc, which transformers 5 does not
  // write.
  Json config = tiny_deepseek();
  const std::string bias = in_layer(1, "mlp.gate.e_score_correction_bias");
  EXPECT_EQ(memory_of(layout_of(config, "vllm"), 0).buffers.count(bias), 1U);
  config.erase("topk_method");
  EXPECT_EQ(memory_of(layout_of(config, "vllm"), 0).buffers.count(bias), 0U);
  EXPECT_EQ(memory_of(layout_of(config, "checkpoint"), 0).buffers.count(bias), 1U);
}

TEST(VllmTest, TiedEmbeddingThatVllmWouldNotTieIsRefused) {
  Json config = tiny_deepseek();
  config["tie_word_embeddings"] = true;
  const auto layout = make_model_layout(config.dump(), "vllm:tp=2");
  ASSERT_FALSE(layout.ok());
  EXPECT_EQ(layout.status().code(), RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_NE(layout.status().message().find("tie_word_embeddings"), std::string::npos);
}

TEST(VllmTest, RedundantSlotsRepeatTheFirstExperts) {
  const ModelLayout layout = layout_of(with_experts(6), "vllm:ep=4,redundant=2");
  EXPECT_EQ(experts_of(layout, 0), (Experts{0, 1}));
  EXPECT_EQ(experts_of(layout, 2), (Experts{4, 5}));
  EXPECT_EQ(experts_of(layout, 3), (Experts{0, 1}));
}

TEST(VllmTest, ExpertMapDecidesTheSlotsLayerByLayerOnEveryReplica) {
  const TemporaryFile file(".json");
  write_text_file(file.path(), R"({"physical_to_logical": [[0, 1, 3, 2, 3, 0], [3, 2, 1, 0, 0, 0]]})");
  const ModelLayout layout = layout_of(with_experts(4), "vllm:tp=2,ep=2,replicas=2,eplb=" + file.path());
  for (const std::int32_t engine : {0, 2}) {
    EXPECT_EQ(experts_of(layout, engine, 0), (Experts{0, 1, 3}));
    EXPECT_EQ(experts_of(layout, engine + 1, 0), (Experts{2, 3, 0}));
    EXPECT_EQ(experts_of(layout, engine, 1), (Experts{3, 2, 1}));
    EXPECT_EQ(experts_of(layout, engine + 1, 1), (Experts{0, 0, 0}));
  }
}

TEST(VllmTest, DenseLayersHaveNoRowInTheExpertMap) {
  Json config = tiny_qwen3_moe();
  config.update({{"num_hidden_layers", 3}, {"mlp_only_layers", {0}}});
  const TemporaryFile file(".json");
  write_text_file(file.path(), R"({"physical_to_logical": [[0, 1, 2, 3], [3, 2, 1, 0]]})");
  const ModelLayout layout = layout_of(config, "vllm:ep=2,eplb=" + file.path());
  EXPECT_EQ(experts_of(layout, 0, 1), (Experts{0, 1}));
  EXPECT_EQ(experts_of(layout, 0, 2), (Experts{3, 2}));
}

TEST(VllmTest, UnreadableExpertMapIsAnIoError) {
  const auto layout = make_model_layout(with_experts(4).dump(), "vllm:ep=2,eplb=/no/such/file");
  ASSERT_FALSE(layout.ok());
  EXPECT_EQ(layout.status().code(), RESHARD_ERR_IO);
  EXPECT_NE(layout.status().message().find("/no/such/file"), std::string::npos);
}

TEST(VllmTest, TiedEmbeddingIsOnTheFirstAndTheLastStage) {
  Json config = tiny_llama();
  config.update({{"tie_word_embeddings", true}, {"num_hidden_layers", 3}});
  const ModelLayout layout = layout_of(config, "vllm:pp=3");
  for (std::int32_t rank = 0; rank < 3; ++rank) {
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.defect, "");
    EXPECT_EQ(memory.buffers.count("model.embed_tokens.weight"), rank == 1 ? 0U : 1U);
    EXPECT_EQ(memory.buffers.count("model.norm.weight"), rank == 2 ? 1U : 0U);
  }
}

TEST(VllmTest, StagesBeforeTheLastTakeTheRemainingLayers) {
  Json config = tiny_llama();
  config["num_hidden_layers"] = 10;
  const ModelLayout layout = layout_of(config, "vllm:pp=4");
  std::vector<int> counts;
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    const Memory memory = memory_of(layout, rank);
    counts.push_back(0);
    for (std::int64_t layer = 0; layer < 10; ++layer) {
      counts.back() += static_cast<int>(memory.buffers.count(in_layer(layer, "input_layernorm.weight")));
    }
  }
  EXPECT_EQ(counts, (std::vector<int>{2, 3, 3, 2}));
}

TEST(VllmTest, SizesThatVllmRefusesAreNamed) {
  const auto expect_words = [](const std::string& message, const std::vector<std::string>& words) {
    for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  expect_words(error_of(tiny_llama(), "vllm:tp=3"), {"tp = 3", "num_attention_heads = 8"});
  expect_words(error_of(tiny_llama(), "vllm:tp=2,ep=2"), {"ep = 2", "llama has no experts"});
  expect_words(error_of(with_experts(6), "vllm:ep=4,redundant=1"), {"7 expert slots", "ep = 4"});
  Json config = tiny_llama();
  config.update({{"num_attention_heads", 12}, {"num_key_value_heads", 4}});
  expect_words(error_of(config, "vllm:tp=6"), {"tp = 6", "num_key_value_heads = 4"});
  config["num_key_value_heads"] = 3;
  config["intermediate_size"] = 12;
  expect_words(error_of(config, "vllm:tp=12"), {"tp = 12", "padded vocabulary = 64"});
  config = tiny_llama();
  config["intermediate_size"] = 6;
  expect_words(error_of(config, "vllm:tp=4"), {"mlp.gate_up_proj.weight", "6", "4 ranks"});
  expect_words(error_of(tiny_qwen3_moe(), "vllm:tp=2,dp=8"),
               {"mlp.experts.routed_experts.w13_weight", "8", "16 ranks"});
}

}  // namespace
}  // namespace reshard
