// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// As semantics_test.cc: where routed experts lie, rank by rank and in which buffers.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json changed(Json config, const Json& changes) {
  config.update(changes);
  return config;
}

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

}  // namespace
}  // namespace reshard
