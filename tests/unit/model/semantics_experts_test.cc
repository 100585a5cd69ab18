// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// As semantics_test.cc: where routed experts lie, rank by rank and in which buffers.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "holders.h"
#include "tests/unit/temporary_file.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::string>;
using testing::HasSubstr;

// ---- as trainers with FSDP hold them

TEST(SemanticsTest, Row34_StackedExpertsAreCutAlongTheExperts) {
  // 7 experts of width 5 on 3 ranks: 3, 3, 1 of them, and of each 5 rows of gate, then 5 of up.
  const Json config = changed(tiny_qwen3_moe(), {{"num_experts", 7}, {"moe_intermediate_size", 5}});
  const ModelLayout layout = layout_of(config, "fsdp:shard=3");
  const std::string moe = in_layer(1, "mlp.experts.");
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    const std::int64_t count = rank < 2 ? 3 : 1;
    expect_buffer(memory, moe + "gate_up_proj", {count, 10, 2}, [&](const Index& i) {
      return Element{moe + (i[1] < 5 ? "gate_proj.weight" : "up_proj.weight"), {rank * 3 + i[0], i[1] % 5, i[2]}};
    });
    expect_buffer(memory, moe + "down_proj", {count, 2, 5}, [&](const Index& i) {
      return Element{moe + "down_proj.weight", {rank * 3 + i[0], i[1], i[2]}};
    });
  }
}

TEST(SemanticsTest, Row34_TensorParallelRanksHaveTheirShareOfGateThenOfUp) {
  // Experts over shard (4 on 3: 2, 2, 0), their 8 rows over tp: 4 of gate, then 4 of up; of down the columns.
  const ModelLayout layout = layout_of(tiny_qwen3_moe(), "fsdp:shard=3,tp=2");
  const std::string moe = in_layer(0, "mlp.experts.");
  for (std::int64_t rank = 0; rank < 6; ++rank) {
    const std::int64_t shard = rank / 2, tp = rank % 2, count = shard < 2 ? 2 : 0;
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    expect_buffer(memory, moe + "gate_up_proj", {count, 8, 2}, [&](const Index& i) {
      return Element{moe + (i[1] < 4 ? "gate_proj.weight" : "up_proj.weight"),
                     {shard * 2 + i[0], tp * 4 + i[1] % 4, i[2]}};
    });
    expect_buffer(memory, moe + "down_proj", {count, 2, 4}, [&](const Index& i) {
      return Element{moe + "down_proj.weight", {shard * 2 + i[0], i[1], tp * 4 + i[2]}};
    });
  }
  // The first dim that 16 divides is that of 64 rows: each rank has two of the 32 that tp leaves, of gate or of up.
  const Json wide = changed(tiny_qwen3_moe(), {{"moe_intermediate_size", 32}});
  const ModelLayout rows = layout_of(wide, "fsdp:shard=16,dim=divisible,tp=2");
  for (std::int64_t rank = 0; rank < 32; ++rank) {
    const std::int64_t shard = rank / 2, tp = rank % 2;
    expect_buffer(memory_of(rows, static_cast<std::int32_t>(rank)), moe + "gate_up_proj", {4, 2, 2},
                  [&](const Index& i) {
                    return Element{moe + (shard < 8 ? "gate_proj.weight" : "up_proj.weight"),
                                   {i[0], tp * 16 + shard % 8 * 2 + i[1], i[2]}};
                  });
  }
  EXPECT_THAT(error_of(wide, "fsdp:shard=16,dim=divisible,tp=2,outer=shard"),
              testing::AllOf(HasSubstr("gate_up_proj"), HasSubstr("leave outer=shard out")));
  EXPECT_THAT(error_of(tiny_qwen3_moe(), "fsdp:tp=3"), testing::AllOf(HasSubstr("gate_up_proj"), HasSubstr("tp = 3")));
  EXPECT_THAT(error_of(tiny_qwen3_moe(), "fsdp:experts=fused"),
              HasSubstr("experts is \"fused\", expected one of stacked, each"));
}

TEST(SemanticsTest, Row34_MixtralOfTransformers5HasOtherModuleNamesThanItsFiles) {
  const std::string moe = in_layer(0, "block_sparse_moe.experts.");
  const Memory stacked = memory_of(layout_of(tiny_mixtral(), "fsdp:shard=2"), 1);
  expect_buffer(stacked, in_layer(0, "mlp.experts.gate_up_proj"), {2, 16, 2}, [&](const Index& i) {
    return Element{moe + (i[1] < 8 ? "w1.weight" : "w3.weight"), {2 + i[0], i[1] % 8, i[2]}};
  });
  expect_buffer(stacked, in_layer(0, "mlp.gate.weight"), {2, 2}, [&](const Index& i) {
    return Element{in_layer(0, "block_sparse_moe.gate.weight"), {2 + i[0], i[1]}};
  });
  const Memory each = memory_of(layout_of(tiny_mixtral(), "fsdp:shard=3,experts=each"), 2);  // 8 rows: 3, 3, 2
  expect_buffer(each, moe + "3.w3.weight", {2, 2}, [&](const Index& i) {
    return Element{moe + "w3.weight", {3, 6 + i[0], i[1]}};
  });
  EXPECT_EQ(each.buffers.count(in_layer(0, "block_sparse_moe.gate.weight")), 1U);
}

// ---- as Megatron holds them

TEST(SemanticsTest, Row34_MegatronHoldsEachExpertAsAParameterOrAModule) {
  // 6 experts on ep = 3, width 6 on etp = 2: rank = ep index * 2 + etp index has experts 2 ep and 2 ep + 1.
  const Json config = changed(tiny_qwen3_moe(), {{"num_experts", 6}, {"moe_intermediate_size", 6}});
  const std::string moe = in_layer(0, "mlp.experts."), layer = "decoder.layers.0.mlp.experts.";
  for (const bool is_module : {false, true}) {
    const ModelLayout layout =
        layout_of(config, fmt::format("megatron:tp=2,dp=3,ep=3,etp=2{}", is_module ? ",experts=local" : ""));
    for (std::int64_t rank = 0; rank < 6; ++rank) {
      const std::int64_t ep = rank / 2, etp = rank % 2;
      const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
      EXPECT_EQ(memory.defect, "");
      for (std::int64_t expert = 0; expert < 2; ++expert) {
        const auto name = [&](const char* fc) {
          return layer + (is_module ? fmt::format("local_experts.{}.{}.weight", expert, fc)
                                    : fmt::format("{}.weight{}", fc, expert));
        };
        expect_buffer(memory, name("linear_fc1"), {6, 2}, [&](const Index& i) {
          return Element{moe + (i[0] < 3 ? "gate_proj.weight" : "up_proj.weight"),
                         {ep * 2 + expert, etp * 3 + i[0] % 3, i[1]}};
        });
        expect_buffer(memory, name("linear_fc2"), {2, 3}, [&](const Index& i) {
          return Element{moe + "down_proj.weight", {ep * 2 + expert, i[0], etp * 3 + i[1]}};
        });
      }
    }
  }
}

TEST(SemanticsTest, Row33_GroupedExpertsAreTransposed) {
  // [n, H, 2 F / etp] and [n, F / etp, H], of experts ep * 2 and ep * 2 + 1, under the grouped MLP's own names.
  const Json config = changed(tiny_qwen3_moe(), {{"moe_intermediate_size", 6}});
  const ModelLayout layout = layout_of(config, "megatron:tp=2,dp=2,ep=2,etp=2,experts=gmm");
  const std::string moe = in_layer(1, "mlp.experts."), layer = "decoder.layers.1.mlp.experts.";
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const std::int64_t ep = rank / 2, etp = rank % 2;
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    expect_buffer(memory, layer + "weight1", {2, 2, 6}, [&](const Index& i) {
      return Element{moe + (i[2] < 3 ? "gate_proj.weight" : "up_proj.weight"),
                     {ep * 2 + i[0], etp * 3 + i[2] % 3, i[1]}};
    });
    expect_buffer(memory, layer + "weight2", {2, 3, 2}, [&](const Index& i) {
      return Element{moe + "down_proj.weight", {ep * 2 + i[0], i[2], etp * 3 + i[1]}};
    });
  }
}

// ---- from one placement to another

/// A model of E experts of width 8.
Json experts(std::int64_t count) {
  return changed(tiny_qwen3_moe(), {{"num_experts", count}, {"vocab_size", 64}});
}

const std::string kUp = in_layer(0, "mlp.experts.up_proj.weight"),
                  kExpertDown = in_layer(0, "mlp.experts.down_proj.weight"),
                  kGate = in_layer(0, "mlp.experts.gate_proj.weight");

TEST(SemanticsTest, Row28_ExpertParallelRanksGrow) {
  // 16 experts from 4 ranks (4 each) to 8 (2 each): rank j from rank j / 2, its local experts (j % 2) * 2 and the next.
  const Holders src(experts(16), "megatron:tp=2,dp=2,ep=4"), dst(experts(16), "vllm:tp=2,ep=8");
  for (std::int64_t rank = 0; rank < 8; ++rank) {
    expect_buffer(dst.memory(rank), in_layer(0, "mlp.experts.routed_experts.w2_weight"), {2, 2, 8},
                  [&](const Index& i) {
                    return Element{kExpertDown, {rank * 2 + i[0], i[1], i[2]}};
                  });
    for (std::int64_t slot = 0; slot < 2; ++slot) {
      EXPECT_EQ(src.of(kExpertDown, {rank * 2 + slot, 1, 7}), Ranks{rank / 2});
      const std::string local = fmt::format("decoder.layers.0.mlp.experts.linear_fc2.weight{}", rank % 2 * 2 + slot);
      EXPECT_EQ(src.memory(rank / 2).buffers.at(local)[0].index[0], rank * 2 + slot);
    }
  }
}

TEST(SemanticsTest, Row29_ExpertParallelRanksMayShrinkAndBeUneven) {
  // 10 experts on 4 ranks: 3 3 2 2, consecutive.
  const Ranks linear = {0, 0, 0, 1, 1, 1, 2, 2, 3, 3};
  const Holders uneven(experts(10), "vllm:tp=1,ep=4");
  for (std::int64_t expert = 0; expert < 10; ++expert) {
    EXPECT_EQ(uneven.of(kUp, {expert, 0, 0}), Ranks{linear[static_cast<std::size_t>(expert)]});
  }
  // From 5 trainers of 2 experts to 2 servers of 5, and one by one in turn where the router has groups.
  const Holders src(experts(10), "megatron:dp=5,ep=5"), shrunk(experts(10), "sglang:tp=2,ep=2");
  for (std::int64_t expert = 0; expert < 10; ++expert) {
    EXPECT_EQ(src.of(kUp, {expert, 3, 1}), Ranks{expert / 2});
    EXPECT_EQ(shrunk.of(kUp, {expert, 3, 1}), Ranks{expert / 5});
  }
  const Json grouped = changed(tiny_deepseek(), {{"n_group", 2}, {"n_routed_experts", 10}});
  const Holders dealt(grouped, "vllm:tp=4,ep=4,placement=round_robin");
  for (std::int64_t expert = 0; expert < 10; ++expert) {
    EXPECT_EQ(dealt.of(in_layer(1, "mlp.experts.up_proj.weight"), {expert, 0, 0}), Ranks{expert % 4});
  }
  EXPECT_THAT(error_of(experts(10), "sglang:tp=4,ep=4"), HasSubstr("ep = 4 does not divide experts = 10"));
}

TEST(SemanticsTest, Row30_ExpertsMayExtendOverTensorParallelRanks) {
  // Expert-parallel rank = ep index * tp + tp index: 8 experts on tp 2 x ep 4, one each, whole though tp cuts the rest.
  const Holders src(experts(8), "megatron:tp=2,dp=4,ep=8,etp=1");
  for (std::int64_t expert = 0; expert < 8; ++expert) EXPECT_EQ(src.of(kGate, {expert, 7, 0}), Ranks{expert});
  EXPECT_EQ(src.of(in_layer(0, "self_attn.o_proj.weight"), {0, 7}), (Ranks{1, 3, 5, 7}));
}

TEST(SemanticsTest, Row31_WholeExpertsBecomePartsOfAllExperts) {
  // 4 experts, 2 each on 2 ranks, to 2 ranks with half of each: gate column t F / tp + c, then up.
  const Json config = changed(experts(4), {{"moe_intermediate_size", 2}});
  const Holders src(config, "megatron:dp=2,ep=2,experts=gmm"), dst(config, "vllm:tp=2");
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    expect_buffer(dst.memory(rank), in_layer(0, "mlp.experts.routed_experts.w13_weight"), {4, 2, 2},
                  [&](const Index& i) {
                    return Element{i[1] == 0 ? kGate : kUp, {i[0], rank, i[2]}};
                  });
    for (std::int64_t expert = 0; expert < 4; ++expert) {
      EXPECT_EQ(src.of(kUp, {expert, rank, 0}), Ranks{expert / 2});
      // [n, H, 2 F] of the trainer: expert e % 2, row 1, column F + rank.
      EXPECT_EQ(
          src.memory(expert / 2)
              .buffers.at(
                  "decoder.layers.0.mlp.experts.weight1")[static_cast<std::size_t>(expert % 2 * 8 + 4 + 2 + rank)],
          (Element{kUp, {expert, rank, 1}}));
    }
  }
}

TEST(SemanticsTest, Row32_PartsOfExpertsBecomeWholeExperts) {
  // ep 2 x etp 4 of width 8: gate row c of expert x on etp index c / 2 of ep index x / 3; to 3 servers of 2 experts.
  const Holders src(experts(6), "megatron:tp=4,dp=2,ep=2,etp=4"), dst(experts(6), "vllm:tp=1,ep=3");
  for (std::int64_t expert = 0; expert < 6; ++expert) {
    for (std::int64_t row = 0; row < 8; ++row) {
      EXPECT_EQ(src.of(kGate, {expert, row, 0}), Ranks{expert / 3 * 4 + row / 2});
      EXPECT_EQ(src.of(kExpertDown, {expert, 1, row}), Ranks{expert / 3 * 4 + row / 2});
      EXPECT_EQ(dst.of(kGate, {expert, row, 0}), Ranks{expert / 2});
    }
  }
  // SGLang's own mix: 4 ranks, 2 groups of experts, each cut over 2.
  const Holders mixed(experts(6), "sglang:tp=4,ep=2");
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    expect_buffer(mixed.memory(rank), in_layer(0, "mlp.experts.w13_weight"), {3, 8, 2}, [&](const Index& i) {
      return Element{i[1] < 4 ? kGate : kUp, {rank / 2 * 3 + i[0], rank % 2 * 4 + i[1] % 4, i[2]}};
    });
  }
}

TEST(SemanticsTest, Row36_SlotsHoldWhatTheTableOfTheLayerSays) {
  // 4 experts on 2 ranks of 3 slots; the two layers have tables of their own, all servers the same.
  const TemporaryFile file(".json");
  write_text_file(file.path(), R"({"physical_to_logical": [[0, 1, 3, 2, 3, 0], [3, 2, 1, 0, 0, 0]]})");
  const std::int64_t tables[2][6] = {{0, 1, 3, 2, 3, 0}, {3, 2, 1, 0, 0, 0}};
  for (const char* form : {"vllm:tp=2,ep=2,replicas=2", "sglang:tp=2,ep=2,replicas=2"}) {
    const Holders dst(experts(4), fmt::format("{},eplb={}", form, file.path()));
    const std::string buffer = form[0] == 'v' ? "mlp.experts.routed_experts.w2_weight" : "mlp.experts.w2_weight";
    for (std::int64_t rank = 0; rank < 4; ++rank) {
      for (std::int64_t layer = 0; layer < 2; ++layer) {
        expect_buffer(dst.memory(rank), in_layer(layer, buffer), {3, 2, 8}, [&](const Index& i) {
          return Element{in_layer(layer, "mlp.experts.down_proj.weight"),
                         {tables[layer][rank % 2 * 3 + i[0]], i[1], i[2]}};
        });
      }
    }
    EXPECT_EQ(dst.of(kExpertDown, {3, 0, 0}), (Ranks{0, 1, 2, 3})) << "expert 3 has a slot on either rank";
    EXPECT_EQ(dst.of(kExpertDown, {1, 0, 0}), (Ranks{0, 2}));
  }
  const Holders redundant(experts(4), "sglang:tp=2,ep=2,redundant=2");  // slots 0 1 2 | 3 0 1
  EXPECT_EQ(redundant.of(kExpertDown, {0, 0, 0}), (Ranks{0, 1}));
  EXPECT_EQ(redundant.of(kExpertDown, {2, 0, 0}), Ranks{0});
  EXPECT_THAT(error_of(experts(4), "sglang:tp=2,redundant=2"), HasSubstr("redundant needs ep"));
  EXPECT_THAT(error_of(experts(4), "sglang:tp=2,ep=2,redundant=1"),
              HasSubstr("ep = 2 does not divide experts + redundant = 5"));
  EXPECT_THAT(error_of(experts(4), "sglang:tp=4,ep=2,all2all=deepep"), HasSubstr("tp = 4"));
}

TEST(SemanticsTest, Row37_EveryServerHoldsTheWholeModel) {
  const Holders dst(experts(4), "vllm:tp=2,ep=2,replicas=3");
  EXPECT_EQ(dst.of(kUp, {3, 1, 1}), (Ranks{1, 3, 5}));
  EXPECT_EQ(dst.of(in_layer(1, "self_attn.o_proj.weight"), {0, 0}), (Ranks{0, 2, 4}));
  for (std::int64_t rank = 2; rank < 6; ++rank) EXPECT_EQ(dst.memory(rank).buffers, dst.memory(rank % 2).buffers);
}

TEST(SemanticsTest, Row38_SharedExpertsAreAnMlp) {
  const std::string shared = in_layer(1, "mlp.shared_experts.");
  const Json config = changed(tiny_deepseek(), {{"n_shared_experts", 2}, {"vocab_size", 64}});  // width 8
  const Holders src(config, "megatron:tp=4");
  EXPECT_EQ(src.rows(1, "decoder.layers.1.mlp.shared_experts.linear_fc1.weight"), (Rows{"g2", "g3", "u2", "u3"}));
  EXPECT_EQ(Holders(config, "vllm:tp=2").rows(1, shared + "gate_up_proj.weight"),
            (Rows{"g4", "g5", "g6", "g7", "u4", "u5", "u6", "u7"}));
  // Where ranks take different tokens through the experts, each has all of them.
  const std::string down = shared + "down_proj.weight";
  EXPECT_EQ(Holders(config, "vllm:tp=2,dp=2,ep=4").of(down, {1, 7}), (Ranks{0, 1, 2, 3}));
  EXPECT_EQ(Holders(config, "sglang:tp=4,ep=2").of(down, {1, 7}), Ranks{3});
  EXPECT_EQ(Holders(config, "sglang:tp=4,all2all=deepep").of(down, {1, 7}), (Ranks{0, 1, 2, 3}));
}

TEST(SemanticsTest, Row39_RoutersAreWholeAndTheirBiasIsInFp32) {
  const std::string bias = in_layer(1, "mlp.gate.e_score_correction_bias"), weight = in_layer(1, "mlp.gate.weight");
  for (const char* text : {"fsdp:shard=2", "megatron:tp=2,dp=2,ep=4", "vllm:tp=2,ep=4", "sglang:tp=4,ep=2"}) {
    const ModelLayout layout = layout_of(tiny_deepseek(), text);
    EXPECT_EQ(at(layout.tensors(), layout.find_tensor(bias)).dtype, DType::kF32) << text;
    EXPECT_EQ(at(layout.tensors(), layout.find_tensor(weight)).dtype, DType::kBF16) << text;
    const Holders holders(tiny_deepseek(), text);
    EXPECT_EQ(holders.of(bias, {7}).size(), static_cast<std::size_t>(layout.num_ranks())) << text;
  }
}

}  // namespace
}  // namespace reshard
