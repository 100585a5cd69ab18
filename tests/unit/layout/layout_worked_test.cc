// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Layouts of real systems with numbers worked out by hand.

#include <gtest/gtest.h>

#include "src/layout/layout.h"

namespace reshard {
namespace {

using Rows = std::vector<std::int64_t>;

Split chunk(std::int64_t num_parts) {
  Split split;
  split.num_parts = num_parts;
  return split;
}

DimMapPtr chunked(std::int64_t extent, const std::vector<Split>& splits) {
  return std::make_shared<const DimMap>(*make_dim_map(extent, splits));
}

/// The rows of a tensor on a rank, by their place in the rank's buffer; -1 where another tensor or padding lies.
/// Rows are row_bytes apart.
Rows rows_on(const ModelLayout& layout, std::int32_t rank, std::int64_t tensor, std::int64_t row_bytes) {
  const std::int64_t buffer = layout.placements(tensor).front().buffer;
  Rows rows(static_cast<std::size_t>(layout.buffer_size_bytes(rank, buffer) / row_bytes), -1);
  for (const Block& block : layout.blocks(rank, tensor)) {
    if (block.kind != BlockKind::kData) continue;
    for (std::int64_t row = block.box.begin[0]; row < block.box.end[0]; ++row) {
      const std::int64_t address = block.offset_bytes + (row - block.box.begin[0]) * block.strides_bytes[0];
      at(rows, address / row_bytes) = row;
    }
  }
  return rows;
}

/// [8, 8] bytes, dim 0 over both axes of the mesh [[0, 1], [2, 3]] (dp, tp).
ModelLayout nested(const std::vector<int>& axes) {
  ModelLayout layout(4);
  const std::int64_t tensor = *layout.add_tensor({"w", DType::kU8, {8, 8}, 0});
  Placement placement;
  placement.mesh = *Mesh::create({{"dp", 2}, {"tp", 2}}, {0, 1, 2, 3});
  placement.dims = {{chunked(8, {chunk(2), chunk(2)}), axes}, {}};
  placement.buffer = layout.add_buffer("w", DType::kU8);
  EXPECT_TRUE(layout.place(tensor, placement).ok());
  return layout;
}

TEST(WorkedLayoutTest, FsdpInsideTpHasRowBlockTpTimesDpSizePlusDp) {
  const ModelLayout layout = nested({1, 0});  // TP cuts first: the strided shard of torch
  EXPECT_EQ(rows_on(layout, 0, 0, 8), (Rows{0, 1}));
  EXPECT_EQ(rows_on(layout, 1, 0, 8), (Rows{4, 5}));
  EXPECT_EQ(rows_on(layout, 2, 0, 8), (Rows{2, 3}));
  EXPECT_EQ(rows_on(layout, 3, 0, 8), (Rows{6, 7}));
}

TEST(WorkedLayoutTest, TpInsideFsdpHasRowBlockDpTimesTpSizePlusTp) {
  const ModelLayout layout = nested({0, 1});
  for (std::int32_t rank = 0; rank < 4; ++rank) EXPECT_EQ(rows_on(layout, rank, 0, 8), (Rows{2 * rank, 2 * rank + 1}));
}

TEST(WorkedLayoutTest, HybridShardRepeatsTheShardsOnEveryReplica) {
  ModelLayout layout(8);
  const std::int64_t tensor = *layout.add_tensor({"w", DType::kU8, {10}, 0});
  Placement placement;
  placement.mesh = *Mesh::create({{"ddp", 2}, {"fsdp", 4}}, {0, 1, 2, 3, 4, 5, 6, 7});
  placement.dims = {{chunked(10, {chunk(4)}), {1}}};
  placement.buffer = layout.add_buffer("w", DType::kU8);
  ASSERT_TRUE(layout.place(tensor, placement).ok());
  for (const std::int32_t replica : {0, 4}) {
    EXPECT_EQ(rows_on(layout, replica + 1, tensor, 1), (Rows{3, 4, 5}));
    EXPECT_EQ(rows_on(layout, replica + 3, tensor, 1), (Rows{9}));
  }
}

/// `num_rows` rows of a fused buffer of `extent` rows, at `local`, of each part of a row split over `num_parts`.
DimMapPtr fused_rows(std::int64_t num_rows, std::int64_t num_parts, std::int64_t local, std::int64_t extent) {
  DimMap map = *make_dim_map(num_rows, {chunk(num_parts)});
  for (DimPart& part : map.parts) {
    part.extent = extent;
    for (Segment& segment : part.segments) segment.local += local;
  }
  return std::make_shared<const DimMap>(std::move(map));
}

TEST(WorkedLayoutTest, VllmReplicatesKvHeadsBySplittingTheTpAxisInTwo) {
  // 8 query heads, 2 kv heads of one row each, TP 4: rank t has [q 2t, q 2t+1, k t/2, v t/2].
  ModelLayout layout(4);
  const std::int64_t buffer = layout.add_buffer("qkv_proj", DType::kU8);
  Placement placement;
  placement.mesh = *Mesh::create({{"kv", 2}, {"replica", 2}}, {0, 1, 2, 3});
  placement.buffer = buffer;
  struct Part {
    const char* name;
    std::int64_t num_heads;
    DimPlacement rows;
  };
  for (const Part& part : {Part{"q", 8, {fused_rows(8, 4, 0, 4), {0, 1}}}, Part{"k", 2, {fused_rows(2, 2, 2, 4), {0}}},
                           Part{"v", 2, {fused_rows(2, 2, 3, 4), {0}}}}) {
    const std::int64_t tensor = *layout.add_tensor({part.name, DType::kU8, {part.num_heads, 5}, 0});
    placement.dims = {part.rows, {}};
    ASSERT_TRUE(layout.place(tensor, placement).ok());
  }
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(layout.buffer_size_bytes(rank, buffer), 4 * 5);
    EXPECT_EQ(rows_on(layout, rank, 0, 5), (Rows{2 * rank, 2 * rank + 1, -1, -1}));
    EXPECT_EQ(rows_on(layout, rank, 1, 5), (Rows{-1, -1, rank / 2, -1}));
    EXPECT_EQ(rows_on(layout, rank, 2, 5), (Rows{-1, -1, -1, rank / 2}));
    Dims shape;
    ASSERT_TRUE(layout.local_shape(rank, 0, &shape));  // of q alone, not of the fused buffer
    EXPECT_EQ(shape[0], 2);
    EXPECT_EQ(shape[1], 5);
  }
}

TEST(WorkedLayoutTest, PaddedVocabularyOfVllmEndsInZeros) {
  // 50257 rows padded to 50304 over TP 4: 12576 each, the last rank has 12529 and 47 of zeros.
  ModelLayout layout(4);
  const std::int64_t tensor = *layout.add_tensor({"embed", DType::kBF16, {50257, 3}, 0});
  DimMap map = *make_dim_map(50257, {[] {
                               Split split = chunk(4);
                               split.rule = Rule::kCuts;
                               split.cuts = {0, 12576, 25152, 37728, 50257};
                               return split;
                             }()});
  for (DimPart& part : map.parts) part.extent = 12576;
  map.owns_padding = true;
  Placement placement;
  placement.mesh = *Mesh::create({{"tp", 4}}, {0, 1, 2, 3});
  placement.dims = {{std::make_shared<const DimMap>(std::move(map)), {0}}, {}};
  placement.buffer = layout.add_buffer("embed", DType::kBF16);
  ASSERT_TRUE(layout.place(tensor, placement).ok());
  EXPECT_EQ(layout.blocks(0, tensor).size(), 1U);
  const std::vector<Block> last = layout.blocks(3, tensor);
  ASSERT_EQ(last.size(), 2U);
  EXPECT_EQ(to_string(last[0].box), "[37728:50257, 0:3]");
  EXPECT_EQ(last[1].kind, BlockKind::kZero);
  EXPECT_EQ(to_string(last[1].box), "[0:47, 0:3]");
  EXPECT_EQ(last[1].offset_bytes, 12529 * 3 * 2);
}

TEST(WorkedLayoutTest, FsdpRowsMeetTpColumnsInTiles) {
  // o_proj [4096, 4096] from 8 row blocks to 4 column blocks: every pair shares a tile of 512 x 1024.
  ModelLayout src(8);
  ModelLayout dst(8);
  Placement rows;
  rows.mesh = *Mesh::create({{"fsdp", 8}}, {0, 1, 2, 3, 4, 5, 6, 7});
  rows.dims = {{chunked(4096, {chunk(8)}), {0}}, {}};
  Placement columns;
  columns.mesh = *Mesh::create({{"tp", 4}}, {4, 5, 6, 7});
  columns.dims = {{}, {chunked(4096, {chunk(4)}), {0}}};
  rows.buffer = src.add_buffer("o_proj", DType::kBF16);
  columns.buffer = dst.add_buffer("o_proj", DType::kBF16);
  ASSERT_TRUE(src.place(*src.add_tensor({"o_proj", DType::kBF16, {4096, 4096}, 0}), rows).ok());
  ASSERT_TRUE(dst.place(*dst.add_tensor({"o_proj", DType::kBF16, {4096, 4096}, 0}), columns).ok());
  const Block from = src.blocks(3, 0).at(0);
  const Block to = dst.blocks(6, 0).at(0);
  EXPECT_EQ(to_string(intersect(from.box, to.box)), "[1536:2048, 2048:3072]");
  EXPECT_EQ(from.strides_bytes[0], 4096 * 2);
  EXPECT_EQ(to.strides_bytes[0], 1024 * 2);
  EXPECT_TRUE(dst.blocks(0, 0).empty());
}

TEST(WorkedLayoutTest, Fsdp1ShardsCutRows) {
  // A 3 x 4 parameter at the start of a flat one of 12: rank 0 has row 0 and half of row 1, rank 1 the rest.
  ModelLayout layout(2);
  const std::int64_t tensor = *layout.add_tensor({"w", DType::kF32, {3, 4}, 0});
  for (const std::int32_t rank : {0, 1}) {
    const std::int64_t buffer = *layout.add_rank_buffer(rank, "flat", 24);
    ASSERT_TRUE(layout.add_flat_range(rank, tensor, 6 * rank, 6 * rank + 6, buffer, 0).ok());
  }
  const std::vector<Block> first = layout.blocks(0, tensor);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(to_string(first[0].box), "[0:1, 0:4]");
  EXPECT_EQ(to_string(first[1].box), "[1:2, 0:2]");
  EXPECT_EQ(first[1].offset_bytes, 16);
  const std::vector<Block> second = layout.blocks(1, tensor);
  ASSERT_EQ(second.size(), 2U);
  EXPECT_EQ(to_string(second[0].box), "[1:2, 2:4]");
  EXPECT_EQ(second[0].offset_bytes, 0);
  EXPECT_EQ(to_string(second[1].box), "[2:3, 0:4]");
  EXPECT_EQ(second[1].offset_bytes, 8);
}

TEST(WorkedLayoutTest, TiedEmbeddingIsPlacedOnTwoStages) {
  ModelLayout layout(4);
  const std::int64_t tensor = *layout.add_tensor({"embed", DType::kU8, {4, 2}, 0});
  for (const std::int32_t first_rank : {0, 2}) {
    Placement placement;
    placement.mesh = *Mesh::create({{"tp", 2}}, {first_rank, first_rank + 1});
    placement.dims = {{chunked(4, {chunk(2)}), {0}}, {}};
    placement.buffer = layout.add_buffer("embed", DType::kU8);
    ASSERT_TRUE(layout.place(tensor, placement).ok());
  }
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    ASSERT_EQ(layout.blocks(rank, tensor).size(), 1U);
    EXPECT_EQ(layout.blocks(rank, tensor)[0].box.begin[0], rank % 2 * 2);
    EXPECT_EQ(layout.buffers_of(rank), (std::vector<std::int64_t>{rank / 2}));
  }
}

}  // namespace
}  // namespace reshard
