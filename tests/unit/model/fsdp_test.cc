// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "memory.h"
#include "src/model/dim_maps.h"
#include "src/model/eplb.h"
#include "src/model/model.h"

namespace reshard {
namespace {

/// The local rows of the embedding over `shard` ranks, whose vocabulary is `rows`.
std::vector<std::int64_t> local_rows(std::int64_t rows, int shard) {
  nlohmann::json config = tiny_llama();
  config["vocab_size"] = rows;
  const ModelLayout layout = layout_of(config, "fsdp:shard=" + std::to_string(shard));
  std::vector<std::int64_t> sizes;
  for (std::int32_t rank = 0; rank < shard; ++rank) {
    Dims shape{};
    EXPECT_TRUE(layout.local_shape(rank, layout.find_tensor("model.embed_tokens.weight"), &shape));
    sizes.push_back(shape[0]);
  }
  return sizes;
}

TEST(FsdpTest, RowsAreCutAsTorchChunkDoes) {
  using Sizes = std::vector<std::int64_t>;
  EXPECT_EQ(local_rows(10, 4), (Sizes{3, 3, 3, 1}));
  EXPECT_EQ(local_rows(5, 4), (Sizes{2, 2, 1, 0}));
  EXPECT_EQ(local_rows(9, 8), (Sizes{2, 2, 2, 2, 1, 0, 0, 0}));
  EXPECT_EQ(local_rows(2, 8), (Sizes{1, 1, 0, 0, 0, 0, 0, 0}));
  Sizes qwen(23, 6331);
  qwen.push_back(6323);
  EXPECT_EQ(local_rows(151936, 24), qwen);
}

TEST(FsdpTest, ReplicasHoldTheSameChunk) {
  const ModelLayout layout = layout_of(tiny_qwen3_moe(), "fsdp:shard=4,replicate=2");
  ASSERT_EQ(layout.num_ranks(), 8);
  EXPECT_EQ(memory_of(layout, 1).buffers, memory_of(layout, 5).buffers);
  EXPECT_NE(memory_of(layout, 1).buffers, memory_of(layout, 2).buffers);
}

TEST(FsdpTest, EachExpertIsCutAlongItsOwnRows) {
  const ModelLayout layout = layout_of(tiny_qwen3_moe(), "fsdp:shard=3,experts=each");
  const std::string gate = in_layer(1, "mlp.experts.gate_proj.weight");
  for (std::int32_t rank = 0; rank < 3; ++rank) {  // 8 rows: 3, 3, 2
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.defect, "");
    for (std::int64_t expert = 0; expert < 4; ++expert) {
      const std::string buffer = in_layer(1, fmt::format("mlp.experts.{}.gate_proj.weight", expert));
      expect_buffer(memory, buffer, {rank < 2 ? 3 : 2, 2}, [&](const Index& i) {
        return Element{gate, {expert, rank * 3 + i[0], i[1]}};
      });
    }
  }
}

TEST(DimMapsTest, OneIndexOfATableOfExpertsIsThatOfItsSlot) {
  // Slots 0 to 2 of two ranks hold experts 5 1 2 and 0 3; a rank without a slot 2 has nothing of it.
  DimMaps maps;
  const DimMapPtr table = expert_dim_map({{5, 1, 2}, {0, 3}});
  const auto experts = [&](std::int64_t slot) {
    std::vector<std::int64_t> found;
    for (const DimPart& part : maps.one_index(table, slot)->parts) {
      EXPECT_EQ(part.extent, part.segments.empty() ? 0 : 1);
      found.push_back(part.segments.empty() ? -1 : part.segments[0].begin);
    }
    return found;
  };
  EXPECT_EQ(experts(0), (std::vector<std::int64_t>{5, 0}));
  EXPECT_EQ(experts(1), (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(experts(2), (std::vector<std::int64_t>{2, -1}));
  EXPECT_EQ(maps.one_index(table, 1), maps.one_index(table, 1)) << "made once";
}

TEST(FsdpTest, VectorsAreShardedAndModuleBuffersAreNot) {
  const ModelLayout layout = layout_of(tiny_deepseek(), "fsdp:shard=2");
  const Memory memory = memory_of(layout, 1);
  const std::string norm = in_layer(1, "input_layernorm.weight"),
                    bias = in_layer(1, "mlp.gate.e_score_correction_bias");
  expect_buffer(memory, norm, {1}, [&](const Index&) { return Element{norm, {1}}; });
  expect_buffer(memory, bias, {8}, [&](const Index& i) { return Element{bias, i}; });
}

}  // namespace
}  // namespace reshard
