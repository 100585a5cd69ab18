// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/merge.h"

#include <gtest/gtest.h>

#include "src/layout/rank_text.h"

namespace reshard {
namespace {

/// What `rank` of 4 knows: rows [3 * half, 3 * half + 3) of a tensor of 6 x 5, in a buffer of its own.
ModelLayout own_half(std::int32_t rank, std::int64_t half) {
  ModelLayout local(4);
  Block block;
  block.tensor = *local.add_tensor({"w", DType::kF32, {6, 5}, 3});
  block.buffer = *local.add_rank_buffer(rank, "half", 60);
  block.box = whole_box({3, 5});
  block.box.begin[0] += half * 3;
  block.box.end[0] += half * 3;
  block.strides_bytes[0] = 20;
  block.strides_bytes[1] = 4;
  EXPECT_TRUE(local.add_block(rank, block).ok());
  return local;
}

TEST(MergeTest, ReplicasAreIsolatedToEqualLayouts) {
  EXPECT_EQ(isolate(own_half(1, 1), 1)->digest(), isolate(own_half(3, 1), 3)->digest());
  EXPECT_NE(isolate(own_half(1, 1), 1)->digest(), isolate(own_half(1, 0), 1)->digest());
  EXPECT_EQ(isolate(own_half(1, 1), 1)->num_ranks(), 1);
}

TEST(MergeTest, EachRankKeepsWhatItDescribed) {
  ModelLayout merged(4);
  for (const std::int32_t rank : {0, 1, 2, 3}) {
    ASSERT_TRUE(merge(*isolate(own_half(rank, rank % 2), rank), rank, &merged).ok());
  }
  ASSERT_EQ(merged.tensors().size(), 1U);
  for (const std::int32_t rank : {0, 1, 2, 3}) {
    const std::vector<Block> blocks = merged.blocks(rank, 0);
    ASSERT_EQ(blocks.size(), 1U);
    EXPECT_EQ(blocks[0].box.begin[0], rank % 2 * 3);
    EXPECT_EQ(merged.buffers_of(rank), std::vector<std::int64_t>{rank});
    EXPECT_EQ(merged.buffer_size_bytes(rank, rank), 60);
  }
}

TEST(MergeTest, WhatIsNotTheRanksOwnIsRefused) {
  EXPECT_NE(isolate(own_half(1, 0), 2).status().message().find("buffer \"half\" is on rank 1"), std::string::npos);
  ModelLayout placed(2);
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 2}}, {0, 1});
  placement.dims.resize(1);
  placement.buffer = placed.add_buffer("v", DType::kF32);
  ASSERT_TRUE(placed.place(*placed.add_tensor({"v", DType::kF32, {4}, 0}), placement).ok());
  EXPECT_NE(isolate(placed, 0).status().message().find("\"v\" is placed"), std::string::npos);
}

TEST(MergeTest, ATensorOfAnotherShapeIsNamed) {
  ModelLayout merged(4);
  ASSERT_TRUE(merged.add_tensor({"w", DType::kF32, {7, 5}, 3}).ok());
  const Status status = merge(*isolate(own_half(2, 0), 2), 2, &merged);
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_NE(status.message().find("rank 2 describes tensor \"w\" as F32 [6, 5]"), std::string::npos);
}

TEST(RankTextTest, ListsBlocksByBufferAndByte) {
  ModelLayout layout(2);
  Split halves;
  halves.num_parts = 2;
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 2}}, {1, 0});
  placement.buffer = layout.add_offset_buffer("all");
  placement.offset_bytes = 64;
  DimMap rows = *make_dim_map(3, {halves});
  rows.owns_padding = true;
  for (DimPart& part : rows.parts) part.extent = 2;
  placement.dims = {{std::make_shared<const DimMap>(rows), {0}}, {}};
  ASSERT_TRUE(layout.place(*layout.add_tensor({"w", DType::kF32, {3, 4}, 0}), placement).ok());
  placement.dims.clear();
  placement.offset_bytes = 0;
  ASSERT_TRUE(layout.place(*layout.add_tensor({"scale", DType::kF64, {}, 0}), placement).ok());
  Block block;
  block.tensor = 0;
  block.kind = BlockKind::kUntouched;
  block.buffer = *layout.add_rank_buffer(1, "own", 40);
  block.box = whole_box({1, 2});
  block.offset_bytes = 8;
  block.strides_bytes[0] = 16;
  block.strides_bytes[1] = -4;
  ASSERT_TRUE(layout.add_block(1, block).ok());
  EXPECT_EQ(rank_text(layout, 0),
            "rank 0 of 2: 1 buffer of 96 bytes, 3 blocks of 2 tensors\n"
            "buffer 0 \"all\", 96 bytes\n"
            "  [0, 8) tensor 1 \"scale\" F64 []\n"
            "  [64, 80) tensor 0 \"w\" F32 [2:3, 0:4], strides 16 4\n"
            "  [80, 96) tensor 0 \"w\" F32 zero [0:1, 0:4], strides 16 4\n");
  EXPECT_EQ(rank_text(layout, 1),
            "rank 1 of 2: 2 buffers of 136 bytes, 3 blocks of 2 tensors\n"
            "buffer 0 \"all\", 96 bytes\n"
            "  [0, 8) tensor 1 \"scale\" F64 []\n"
            "  [64, 96) tensor 0 \"w\" F32 [0:2, 0:4], strides 16 4\n"
            "buffer 1 \"own\", 40 bytes\n"
            "  [4, 12) tensor 0 \"w\" F32 untouched [0:1, 0:2], strides 16 -4\n");
}

}  // namespace
}  // namespace reshard
