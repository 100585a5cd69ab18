// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

TEST(CheckpointTest, EveryRankHoldsTheWholeOfEveryTensor) {
  const ModelLayout layout = layout_of(tiny_deepseek(), "checkpoint:ranks=2");
  ASSERT_EQ(layout.num_ranks(), 2);
  for (std::int32_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.defect, "");
    EXPECT_EQ(memory.buffers.size(), layout.tensors().size());
    for (const Tensor& tensor : layout.tensors()) {
      expect_buffer(memory, tensor.name, tensor.shape, [&](const Index& i) { return Element{tensor.name, i}; });
    }
  }
}

TEST(CheckpointTest, SplitPutsEachTensorOnOneRankInOrderAndInBalance) {
  nlohmann::json config = tiny_llama();
  config["num_hidden_layers"] = 16;
  const ModelLayout layout = layout_of(config, "checkpoint:split=4");
  ASSERT_EQ(layout.num_ranks(), 4);
  std::vector<std::int64_t> bytes(4, 0);
  std::int32_t previous = 0;
  std::int64_t largest = 0;
  for (std::int64_t tensor = 0; tensor < static_cast<std::int64_t>(layout.tensors().size()); ++tensor) {
    int holders = 0;
    for (std::int32_t rank = 0; rank < 4; ++rank) {
      if (layout.blocks(rank, tensor).empty()) continue;
      ++holders;
      EXPECT_GE(rank, previous);
      previous = rank;
      const std::int64_t size = layout.buffer_size_bytes(rank, tensor);  // buffers are made in the order of tensors
      bytes[static_cast<std::size_t>(rank)] += size;
      largest = std::max(largest, size);
    }
    EXPECT_EQ(holders, 1);
  }
  const auto [least, most] = std::minmax_element(bytes.begin(), bytes.end());
  EXPECT_LE(*most - *least, 2 * largest);
}

TEST(CheckpointTest, MoreRanksThanTensorsLeaveSomeEmpty) {
  nlohmann::json config = tiny_llama();
  config["num_hidden_layers"] = 1;
  const ModelLayout layout = layout_of(config, "checkpoint:split=1000");
  std::set<std::string> held;
  for (std::int32_t rank = 0; rank < 1000; ++rank) {
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.defect, "");
    for (const auto& [name, elements] : memory.buffers) EXPECT_TRUE(held.insert(name).second) << name;
  }
  EXPECT_EQ(held.size(), layout.tensors().size());
}

TEST(CheckpointTest, GroupsAreLayersWithTheEmbeddingFirst) {
  const ModelLayout layout = layout_of(tiny_llama(), "checkpoint");
  const auto group = [&](const std::string& name) {
    return layout.tensors()[static_cast<std::size_t>(layout.find_tensor(name))].group;
  };
  EXPECT_EQ(group("model.embed_tokens.weight"), 0);
  EXPECT_EQ(group(in_layer(0, "mlp.up_proj.weight")), 1);
  EXPECT_EQ(group(in_layer(1, "mlp.up_proj.weight")), 2);
  EXPECT_EQ(group("model.norm.weight"), 3);
  EXPECT_EQ(group("lm_head.weight"), 3);
}

}  // namespace
}  // namespace reshard
