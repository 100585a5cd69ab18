// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Megatron-Core's local parameters, element by element, from the formulas of its rank order and of its fused rows.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::string>;

std::string stage_layer(std::int64_t layer, const std::string& name) {
  return fmt::format("decoder.layers.{}.{}", layer, name);
}

Rows qkv_rows(const Json& config, const std::string& text, std::int32_t rank) {
  const Memory memory = memory_of(layout_of(config, text), rank);
  EXPECT_EQ(memory.defect, "");
  return rows_of(memory, stage_layer(0, "self_attention.linear_qkv.weight"), kTinyHidden);
}

TEST(MegatronTest, QkvIsInterleavedByQueryGroup) {
  EXPECT_EQ(qkv_rows(tiny_llama(), "megatron:tp=2", 0), (Rows{"q0", "q1", "k0", "v0", "q2", "q3", "k1", "v1"}));
  EXPECT_EQ(qkv_rows(tiny_llama(), "megatron:tp=2", 1), (Rows{"q4", "q5", "k2", "v2", "q6", "q7", "k3", "v3"}));
}

TEST(MegatronTest, MoreRanksThanQueryGroupsCutInsideGroups) {
  Json config = tiny_llama();
  config["num_key_value_heads"] = 2;
  const std::vector<Rows> expected = {{"q0", "q1", "q2"}, {"q3", "k0", "v0"}, {"q4", "q5", "q6"}, {"q7", "k1", "v1"}};
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(qkv_rows(config, "megatron:tp=4", rank), expected[static_cast<std::size_t>(rank)]) << rank;
  }
}

TEST(MegatronTest, GateAndUpAreFusedPerRank) {
  const ModelLayout layout = layout_of(tiny_llama(), "megatron:tp=4");
  EXPECT_EQ(rows_of(memory_of(layout, 1), stage_layer(0, "mlp.linear_fc1.weight"), kTinyHidden),
            (Rows{"g2", "g3", "u2", "u3"}));
}

TEST(MegatronTest, VocabularyIsPaddedTo128PerRank) {
  Json config = tiny_llama();
  config["vocab_size"] = 50257;
  const ModelLayout layout = layout_of(config, "megatron:tp=8");
  const std::string name = "model.embed_tokens.weight";
  for (const std::int64_t rank : {0, 7}) {
    expect_buffer(memory_of(layout, static_cast<std::int32_t>(rank)), "embedding.word_embeddings.weight",
                  {6400, kTinyHidden}, [&](const Index& i) {
                    const std::int64_t row = rank * 6400 + i[0];
                    return row < 50257 ? Element{name, {row, i[1]}} : kZero;
                  });
  }
}

/// The layers whose input norm lies on some rank of each stage.
std::vector<std::vector<std::int64_t>> layers_of_stages(const Json& config, const std::string& text, std::int32_t pp) {
  const ModelLayout layout = layout_of(config, text);
  std::vector<std::vector<std::int64_t>> stages(static_cast<std::size_t>(pp));
  for (std::int32_t stage = 0; stage < pp; ++stage) {
    const Memory memory = memory_of(layout, stage * layout.num_ranks() / pp);
    for (std::int64_t layer = 0; layer < config["num_hidden_layers"]; ++layer) {
      if (memory.buffers.count(stage_layer(layer, "input_layernorm.weight")) > 0) {
        stages[static_cast<std::size_t>(stage)].push_back(layer);
      }
    }
  }
  return stages;
}

std::vector<std::size_t> sizes_of(const std::vector<std::vector<std::int64_t>>& lists) {
  std::vector<std::size_t> sizes;
  for (const auto& list : lists) sizes.push_back(list.size());
  return sizes;
}

TEST(MegatronTest, LayersAreBalancedOverStagesOrAsGiven) {
  Json config = tiny_llama();
  config["num_hidden_layers"] = 61;
  std::vector<std::size_t> balanced(13, 4);
  balanced.insert(balanced.end(), 3, 3);
  EXPECT_EQ(sizes_of(layers_of_stages(config, "megatron:pp=16", 16)), balanced);
  const auto stages = layers_of_stages(config, "megatron:pp=8,dp=2,layers=7-7-8-8-8-8-8-7", 8);
  EXPECT_EQ(sizes_of(stages), (std::vector<std::size_t>{7, 7, 8, 8, 8, 8, 8, 7}));
  EXPECT_EQ(stages[2].front(), 14);
  EXPECT_EQ(stages[7].back(), 60);
}

TEST(MegatronTest, EmbeddingIsOnTheFirstStageAndOutputOnTheLast) {
  const ModelLayout layout = layout_of(tiny_llama(), "megatron:pp=2");
  const Memory first = memory_of(layout, 0), last = memory_of(layout, 1);
  EXPECT_EQ(first.buffers.count("embedding.word_embeddings.weight"), 1U);
  EXPECT_EQ(first.buffers.count("decoder.final_layernorm.weight"), 0U);
  EXPECT_EQ(first.buffers.count("output_layer.weight"), 0U);
  EXPECT_EQ(last.buffers.count("embedding.word_embeddings.weight"), 0U);
  EXPECT_EQ(last.buffers.count("decoder.final_layernorm.weight"), 1U);
  EXPECT_EQ(last.buffers.at("output_layer.weight")[0].tensor, "lm_head.weight");
}

TEST(MegatronTest, TiedEmbeddingHasACopyOnTheLastStageOnly) {
  Json config = tiny_llama();
  config["tie_word_embeddings"] = true;
  const ModelLayout two = layout_of(config, "megatron:pp=2");
  EXPECT_EQ(memory_of(two, 0).buffers.count("output_layer.weight"), 0U);
  EXPECT_EQ(memory_of(two, 1).buffers.at("output_layer.weight")[0].tensor, "model.embed_tokens.weight");
  const ModelLayout one = layout_of(config, "megatron");
  EXPECT_EQ(memory_of(one, 0).buffers.count("output_layer.weight"), 0U);
  EXPECT_EQ(memory_of(one, 0).buffers.count("embedding.word_embeddings.weight"), 1U);
}

TEST(MegatronTest, LegacyExpertsAreTransposed) {
  // Two experts of a rank, one of its two columns: memory [n, H, (gate | up)] and [n, F, H].
  Json config = tiny_qwen3_moe();
  config["moe_intermediate_size"] = 4;
  const ModelLayout layout = layout_of(config, "megatron:tp=2,dp=2,ep=2,etp=2,experts=gmm");
  const std::string prefix = in_layer(0, "mlp.experts.");
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const std::int64_t etp = rank % 2, ep = rank / 2;
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    expect_buffer(memory, stage_layer(0, "mlp.experts.weight1"), {2, kTinyHidden, 4}, [&](const Index& i) {
      return Element{prefix + (i[2] < 2 ? "gate_proj.weight" : "up_proj.weight"),
                     {ep * 2 + i[0], etp * 2 + i[2] % 2, i[1]}};
    });
    expect_buffer(memory, stage_layer(0, "mlp.experts.weight2"), {2, 2, kTinyHidden}, [&](const Index& i) {
      return Element{prefix + "down_proj.weight", {ep * 2 + i[0], i[2], etp * 2 + i[1]}};
    });
  }
}

TEST(MegatronTest, LatentAttentionIsCutByHeadsAndItsDownProjectionsAreWhole) {
  const ModelLayout layout = layout_of(tiny_deepseek(), "megatron:tp=2");
  const Memory memory = memory_of(layout, 1);
  EXPECT_EQ(memory.defect, "");
  const auto rows_from = [](const std::string& name, std::int64_t first) {
    return [=](const Index& i) { return Element{in_layer(0, name), {first + i[0], i[1]}}; };
  };
  expect_buffer(memory, stage_layer(0, "self_attention.linear_q_down_proj.weight"), {3, 2},
                rows_from("self_attn.q_a_proj.weight", 0));
  expect_buffer(memory, stage_layer(0, "self_attention.linear_kv_down_proj.weight"), {3, 2},
                rows_from("self_attn.kv_a_proj_with_mqa.weight", 0));
  expect_buffer(memory, stage_layer(0, "self_attention.linear_q_up_proj.weight"), {6, 3},
                rows_from("self_attn.q_b_proj.weight", 6));  // heads 2 and 3 of (2 + 1) rows
  expect_buffer(memory, stage_layer(0, "self_attention.linear_kv_up_proj.weight"), {8, 2},
                rows_from("self_attn.kv_b_proj.weight", 8));  // heads 2 and 3 of (2 + 2) rows
  expect_buffer(memory, stage_layer(0, "self_attention.linear_proj.weight"), {2, 4}, [](const Index& i) {
    return Element{in_layer(0, "self_attn.o_proj.weight"), {i[0], 4 + i[1]}};
  });
  expect_buffer(memory, stage_layer(1, "mlp.shared_experts.linear_fc1.weight"), {4, 2}, [](const Index& i) {
    return Element{in_layer(1, i[0] < 2 ? "mlp.shared_experts.gate_proj.weight" : "mlp.shared_experts.up_proj.weight"),
                   {2 + i[0] % 2, i[1]}};
  });
  expect_buffer(memory, stage_layer(1, "mlp.router.expert_bias"), {8}, [](const Index& i) {
    return Element{in_layer(1, "mlp.gate.e_score_correction_bias"), i};
  });
}

struct Settings {
  std::int64_t tp, pp, dp, ep, etp;
};

class MegatronElementsTest : public testing::TestWithParam<Settings> {};

/// 8 q heads in 4 groups, head_dim 2, 8 experts of width 8, 3 layers.
class Oracle {
 public:
  Oracle(const Settings& s, std::int64_t rank)
      : s_(s), tp_(rank % s.tp), etp_(rank % (s.tp * s.dp) % s.etp), ep_(rank % (s.tp * s.dp) / s.etp % s.ep) {}

  static Json config() {
    Json config = tiny_qwen3_moe();
    config.update({{"head_dim", 2}, {"num_experts", 8}, {"num_hidden_layers", 3}});
    return config;
  }

  void expect_layer(const Memory& memory, std::int64_t layer) const {
    expect_buffer(memory, stage_layer(layer, "self_attention.linear_qkv.weight"), {32 / s_.tp, kTinyHidden},
                  [&](const Index& i) { return qkv(layer, tp_ * (32 / s_.tp) + i[0], i[1]); });
    expect_buffer(memory, stage_layer(layer, "self_attention.linear_proj.weight"), {kTinyHidden, 16 / s_.tp},
                  [&](const Index& i) {
                    return Element{in_layer(layer, "self_attn.o_proj.weight"), {i[0], tp_ * (16 / s_.tp) + i[1]}};
                  });
    const std::int64_t num_experts = 8 / s_.ep, width = 8 / s_.etp;
    for (std::int64_t expert = 0; expert < num_experts; ++expert) {  // of the rank; a parameter of [2 F, H] for each
      const std::int64_t id = ep_ * num_experts + expert;
      const std::string fc1 = fmt::format("mlp.experts.linear_fc1.weight{}", expert),
                        fc2 = fmt::format("mlp.experts.linear_fc2.weight{}", expert);
      expect_buffer(memory, stage_layer(layer, fc1), {2 * width, kTinyHidden}, [&](const Index& i) {
        const char* proj = i[0] < width ? "mlp.experts.gate_proj.weight" : "mlp.experts.up_proj.weight";
        return Element{in_layer(layer, proj), {id, etp_ * width + i[0] % width, i[1]}};
      });
      expect_buffer(memory, stage_layer(layer, fc2), {kTinyHidden, width}, [&](const Index& i) {
        return Element{in_layer(layer, "mlp.experts.down_proj.weight"), {id, i[0], etp_ * width + i[1]}};
      });
    }
    EXPECT_EQ(memory.buffers.count(stage_layer(layer, fmt::format("mlp.experts.linear_fc1.weight{}", num_experts))),
              0U);
    expect_buffer(memory, stage_layer(layer, "mlp.router.weight"), {8, kTinyHidden}, [&](const Index& i) {
      return Element{in_layer(layer, "mlp.gate.weight"), i};
    });
  }

 private:
  /// Row y of the interleaved tensor: per group 2 q heads, k, v, each of 2 rows.
  static Element qkv(std::int64_t layer, std::int64_t y, std::int64_t column) {
    const std::int64_t group = y / 8, head = y / 2 % 4, d = y % 2;
    if (head < 2) return {in_layer(layer, "self_attn.q_proj.weight"), {(group * 2 + head) * 2 + d, column}};
    return {in_layer(layer, head == 2 ? "self_attn.k_proj.weight" : "self_attn.v_proj.weight"),
            {group * 2 + d, column}};
  }

  Settings s_;
  std::int64_t tp_, etp_, ep_;
};

TEST_P(MegatronElementsTest, EveryRankHoldsWhatTheFormulasSay) {
  const Settings& s = GetParam();
  const ModelLayout layout = layout_of(
      Oracle::config(), fmt::format("megatron:tp={},pp={},dp={},ep={},etp={}", s.tp, s.pp, s.dp, s.ep, s.etp));
  ASSERT_EQ(layout.num_ranks(), s.tp * s.pp * s.dp);
  for (std::int64_t rank = 0; rank < layout.num_ranks(); ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "") << "rank " << rank;
    for (std::int64_t layer = 0; layer < 3; ++layer) {
      const std::int64_t stage = s.pp == 2 ? layer / 2 : layer / (3 / s.pp);  // 3 layers on 2 stages: 2 and 1
      if (rank / (s.tp * s.dp) == stage) {
        Oracle(s, rank).expect_layer(memory, layer);
      } else {
        EXPECT_EQ(memory.buffers.count(stage_layer(layer, "mlp.router.weight")), 0U);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, MegatronElementsTest,
                         testing::Values(Settings{1, 1, 1, 1, 1}, Settings{2, 2, 2, 4, 1}, Settings{4, 1, 2, 2, 2},
                                         Settings{2, 3, 2, 1, 4}, Settings{8, 1, 1, 8, 1}, Settings{1, 2, 8, 2, 1},
                                         Settings{8, 1, 1, 1, 8}, Settings{2, 1, 6, 2, 2}),
                         [](const auto& test) {
                           const Settings& s = test.param;
                           return fmt::format("tp{}pp{}dp{}ep{}etp{}", s.tp, s.pp, s.dp, s.ep, s.etp);
                         });

TEST(MegatronTest, SizesThatMegatronRefusesAreNamed) {
  const auto expect_words = [](const std::string& message, const std::vector<std::string>& words) {
    for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  expect_words(error_of(tiny_llama(), "megatron:tp=3"), {"tp = 3", "num_attention_heads = 8"});
  expect_words(error_of(tiny_llama(), "megatron:dp=2,ep=2"), {"ep = 2", "llama has no experts"});
  expect_words(error_of(tiny_llama(), "megatron:pp=2,layers=2-1"), {"layers add up to 3", "has 2"});
  expect_words(error_of(tiny_qwen3_moe(), "megatron:dp=3,ep=3"), {"ep = 3", "experts = 4"});
  Json config = tiny_llama();
  config["intermediate_size"] = 6;
  expect_words(error_of(config, "megatron:tp=4"), {"mlp.linear_fc1.weight", "6", "4 ranks"});
  config = tiny_llama();
  config["num_key_value_heads"] = 1;
  expect_words(error_of(config, "megatron:tp=4"), {"tp = 4", "linear_qkv", "10 rows"});
}

/// The names of all buffers of rank 0 without the layers' prefix, sorted; those outside layers as they are. Of the
/// parameters of single experts the first.
std::vector<std::string> names_in(const nlohmann::json& config) {
  std::vector<std::string> names;
  for (const auto& [name, elements] : memory_of(layout_of(config, "megatron"), 0).buffers) {
    const std::string prefix = "decoder.layers.0.";
    if (name.find("mlp.experts.") != std::string::npos && name.back() != '0') continue;
    names.push_back(name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name);
  }
  return names;
}

TEST(MegatronTest, BuffersHaveTheNamesThatMegatronGivesThem) {
  // Of its local layer specification, one layer of each kind.
  nlohmann::json config = tiny_mixtral();
  config["num_hidden_layers"] = 1;
  EXPECT_THAT(names_in(config),
              testing::UnorderedElementsAre("embedding.word_embeddings.weight", "decoder.final_layernorm.weight",
                                            "output_layer.weight", "input_layernorm.weight", "pre_mlp_layernorm.weight",
                                            "self_attention.linear_qkv.weight", "self_attention.linear_proj.weight",
                                            "mlp.router.weight", "mlp.experts.linear_fc1.weight0",
                                            "mlp.experts.linear_fc2.weight0"));
  config = tiny_deepseek();
  config.update({{"num_hidden_layers", 1}, {"first_k_dense_replace", 0}});
  EXPECT_THAT(names_in(config),
              testing::UnorderedElementsAre(
                  "embedding.word_embeddings.weight", "decoder.final_layernorm.weight", "output_layer.weight",
                  "input_layernorm.weight", "pre_mlp_layernorm.weight", "self_attention.linear_q_down_proj.weight",
                  "self_attention.q_layernorm.weight", "self_attention.linear_q_up_proj.weight",
                  "self_attention.linear_kv_down_proj.weight", "self_attention.kv_layernorm.weight",
                  "self_attention.linear_kv_up_proj.weight", "self_attention.linear_proj.weight", "mlp.router.weight",
                  "mlp.router.expert_bias", "mlp.experts.linear_fc1.weight0", "mlp.experts.linear_fc2.weight0",
                  "mlp.shared_experts.linear_fc1.weight", "mlp.shared_experts.linear_fc2.weight"));
  config.update({{"q_lora_rank", nullptr}, {"first_k_dense_replace", 1}});
  EXPECT_THAT(names_in(config),
              testing::UnorderedElementsAre(
                  "embedding.word_embeddings.weight", "decoder.final_layernorm.weight", "output_layer.weight",
                  "input_layernorm.weight", "pre_mlp_layernorm.weight", "self_attention.linear_q_proj.weight",
                  "self_attention.linear_kv_down_proj.weight", "self_attention.kv_layernorm.weight",
                  "self_attention.linear_kv_up_proj.weight", "self_attention.linear_proj.weight",
                  "mlp.linear_fc1.weight", "mlp.linear_fc2.weight"));
  config = tiny_llama();
  config.update({{"model_type", "qwen3"}, {"num_hidden_layers", 1}});
  EXPECT_THAT(names_in(config),
              testing::UnorderedElementsAre("embedding.word_embeddings.weight", "decoder.final_layernorm.weight",
                                            "output_layer.weight", "input_layernorm.weight", "pre_mlp_layernorm.weight",
                                            "self_attention.linear_qkv.weight", "self_attention.q_layernorm.weight",
                                            "self_attention.k_layernorm.weight", "self_attention.linear_proj.weight",
                                            "mlp.linear_fc1.weight", "mlp.linear_fc2.weight"));
}

TEST(MegatronTest, W1OfMixtralIsTheUpperAndW3TheLowerHalfOfFc1) {
  const std::string moe = in_layer(0, "block_sparse_moe.experts.");
  const Memory memory = memory_of(layout_of(tiny_mixtral(), "megatron:tp=2,etp=2"), 1);
  expect_buffer(memory, "decoder.layers.0.mlp.experts.linear_fc1.weight3", {8, 2}, [&](const Index& i) {
    return Element{moe + (i[0] < 4 ? "w1.weight" : "w3.weight"), {3, 4 + i[0] % 4, i[1]}};
  });
  expect_buffer(memory, "decoder.layers.0.mlp.experts.linear_fc2.weight3", {2, 4}, [&](const Index& i) {
    return Element{moe + "w2.weight", {3, i[0], 4 + i[1]}};
  });
}

}  // namespace
}  // namespace reshard
