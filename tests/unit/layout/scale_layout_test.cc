// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// What lies beside the pieces of a tensor, on random layouts, element by element.

#include "src/layout/scale_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "tests/unit/layout/random_layout.h"

namespace reshard {
namespace {

constexpr std::int32_t kScaleRanks = 4;

/// A grid of small blocks over some of the dims: the kinds' own blocks would need large tensors.
ScaleGrid random_grid(const oracle::Indices& shape) {
  ScaleGrid grid;
  grid.num_dims = static_cast<int>(shape.size());
  grid.scale_dims = static_cast<int>(random(0, grid.num_dims));
  for (int d = 0; d < grid.num_dims; ++d) {
    grid.shape[d] = at(shape, d);
    grid.block[d] = d < grid.scale_dims ? random(1, 4) : std::max<std::int64_t>(1, at(shape, d));
  }
  return grid;
}

oracle::Indices scale_of(const ScaleGrid& grid, const oracle::Indices& element) {
  oracle::Indices scale;
  for (int d = 0; d < grid.scale_dims; ++d) scale.push_back(at(element, d) / grid.block[d]);
  return scale;
}

std::set<oracle::Indices> held(const ModelLayout& layout, std::int32_t rank, std::int64_t tensor) {
  std::set<oracle::Indices> out;
  oracle::for_each_index(at(layout.tensors(), tensor).shape, [&](const oracle::Indices& index) {
    for (const Block& block : layout.blocks(rank, tensor)) {
      if (block.kind == BlockKind::kData && oracle::contains(block.box, index)) out.insert(index);
    }
  });
  return out;
}

struct Weight {
  ModelLayout layout{kScaleRanks};
  oracle::Indices shape;
  ScaleGrid grid;
};

Weight random_weight() {
  Weight weight;
  weight.shape = oracle::random_shape(3, 9);
  weight.grid = random_grid(weight.shape);
  ModelLayout& layout = weight.layout;
  const std::int64_t tensor = *layout.add_tensor({"w", DType::kBF16, weight.shape, 0});
  for (std::int64_t n = random(0, 2); n > 0; --n) {
    Placement placement = oracle::random_placement(weight.shape, kScaleRanks).placement;
    placement.buffer = layout.add_buffer("w", DType::kBF16);
    RC_ASSERT(layout.place(tensor, placement).ok());
  }
  const std::int64_t own = *layout.add_rank_buffer(2, "own", 4096);
  const std::int64_t end = whole_box(weight.shape).num_elements();
  if (random(0, 1) == 0) RC_ASSERT(layout.add_flat_range(2, tensor, random(0, end), end, own, 0).ok());
  return weight;
}

std::vector<std::int64_t> shape_of_scales(const ScaleGrid& grid) {
  std::vector<std::int64_t> shape;
  for (int d = 0; d < grid.scale_dims; ++d) shape.push_back((grid.shape[d] + grid.block[d] - 1) / grid.block[d]);
  return shape;
}

RC_GTEST_PROP(ScaleLayoutTest, ARankHasTheScaleOfEachOfItsElementsAndNoOther, ()) {
  Weight weight = random_weight();
  BesidePlacer placer(&weight.layout);
  const Result<std::int64_t> made =
      placer.add_dense(0, weight.grid, {"s", DType::kF32, shape_of_scales(weight.grid), 0});
  RC_ASSERT(made.ok());
  for (std::int32_t rank = 0; rank < kScaleRanks; ++rank) {
    std::set<oracle::Indices> wanted;
    for (const oracle::Indices& element : held(weight.layout, rank, 0)) wanted.insert(scale_of(weight.grid, element));
    const std::set<oracle::Indices> found = held(weight.layout, rank, *made);
    RC_ASSERT(std::includes(found.begin(), found.end(), wanted.begin(), wanted.end()));
    // Where a dim that scales have not got is empty, they are there all the same, and no element asks for them.
    RC_ASSERT(weight.grid.scale_dims < weight.grid.num_dims || found == wanted);
  }
}

RC_GTEST_PROP(ScaleLayoutTest, ALandingPlaceHoldsTheSameElementsWithoutGaps, ()) {
  Weight weight = random_weight();
  BesidePlacer placer(&weight.layout);
  const std::int64_t made = *placer.add_dense(0, element_grid(weight.shape), {"w", DType::kF32, weight.shape, 0});
  RC_ASSERT(at(weight.layout.tensors(), made).name == "w'");
  for (std::int32_t rank = 0; rank < kScaleRanks; ++rank) {
    RC_ASSERT(held(weight.layout, rank, made) == held(weight.layout, rank, 0));
    std::int64_t bytes = 0;
    for (const Block& block : weight.layout.blocks(rank, made)) {
      RC_ASSERT(block.kind == BlockKind::kData);
      bytes += 4 * block.box.num_elements();
    }
    std::int64_t buffers = 0;
    for (const std::int64_t buffer : weight.layout.buffers_of(rank)) {
      if (at(weight.layout.buffers(), buffer).name == "w'") buffers += weight.layout.buffer_size_bytes(rank, buffer);
    }
    RC_ASSERT(bytes == buffers);
  }
}

/// A block is whole in one piece exactly if some memory block of the rank has all of its elements, for each memory
/// block that has any.
RC_GTEST_PROP(ScaleLayoutTest, CutBlocksAreFound, ()) {
  const Weight weight = random_weight();
  bool is_cut = false;
  // Parts of a map count also where no rank has them, as after a rank was lost: so all ranks of the mesh are there.
  for (std::int32_t rank = 0; rank < kScaleRanks; ++rank) {
    for (const Block& block : weight.layout.blocks(rank, 0)) {
      if (block.kind != BlockKind::kData || block.box.empty()) continue;
      is_cut = is_cut || !(intersect(weight.grid.elements_of(weight.grid.scales_of(block.box)), block.box) ==
                           weight.grid.elements_of(weight.grid.scales_of(block.box)));
    }
  }
  const std::optional<CutBlock> found = find_cut_block(weight.layout, 0, weight.grid);
  // A part may be cut while the rank holds nothing of it, since another dim of its is empty: to be on the safe side.
  RC_ASSERT(!is_cut || found.has_value());
  if (!found.has_value()) return;
  RC_ASSERT(found->border % found->block != 0);
  RC_ASSERT(found->border > 0 && found->border < at(weight.shape, found->dim));
}

/// 8 x 6 over 2 ranks, rows; blocks of 2 x 3.
struct Halves {
  ModelLayout layout{2};
  ScaleGrid grid;
  std::int64_t weight = -1;

  explicit Halves(std::vector<std::int64_t> cuts, std::int64_t local = 0) {
    weight = *layout.add_tensor({"w", DType::kF8E4M3, {8, 6}, 0});
    grid.num_dims = grid.scale_dims = 2;
    grid.shape[0] = 8;
    grid.shape[1] = 6;
    grid.block[0] = 2;
    grid.block[1] = 3;
    DimMap map;
    for (std::size_t r = 0; r < 2; ++r) {
      map.parts.push_back({{{cuts[r], cuts[r + 1], local}}, cuts[r + 1] - cuts[r] + local});
    }
    Placement placement;
    placement.mesh = *Mesh::create({{"x", 2}}, {0, 1});
    placement.dims = {{std::make_shared<const DimMap>(map), {0}}, {}};
    placement.order = {1, 0};
    placement.buffer = layout.add_buffer("w", DType::kF8E4M3);
    EXPECT_TRUE(layout.place(weight, placement).ok());
  }

  Status place_scales() {
    const std::int64_t scales = *layout.add_tensor({"s", DType::kF32, {4, 2}, 0});
    const std::int64_t buffer = layout.add_buffer("s", DType::kF32);
    return BesidePlacer(&layout).place_alike(weight, grid, scales, {{0, buffer}});
  }
};

TEST(ScaleLayoutTest, ScalesAreFusedAsTheirWeightsAre) {
  Halves halves({0, 2, 8}, 4);
  ASSERT_TRUE(halves.place_scales().ok());
  const std::vector<Block> blocks = halves.layout.blocks(1, 1);
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(to_string(blocks[0].box), "[1:4, 0:2]");
  EXPECT_EQ(blocks[0].offset_bytes, 2 * 4) << "row 4 of the buffer is row 2 of its scales";
  EXPECT_EQ(blocks[0].strides_bytes[0], 4) << "columns are the slow dim, as of the weight";
  EXPECT_EQ(blocks[0].strides_bytes[1], 5 * 4);
  EXPECT_EQ(halves.layout.buffer_size_bytes(1, 1), 5 * 2 * 4);
}

TEST(ScaleLayoutTest, WhatCannotBeFusedIsRefusedWithTheBorder) {
  EXPECT_EQ(Halves({0, 3, 8}).place_scales().message(),
            "dimension 0: is cut at 3, inside a block of 2 that shares a scale");
  EXPECT_EQ(Halves({0, 2, 8}, 1).place_scales().message(),
            "dimension 0: its piece [0, 2) begins at 1 of the buffer, inside a block of 2 that shares a scale");
}

TEST(ScaleLayoutTest, PiecesThatAreCutAlikeShareTheirMaps) {
  Halves halves({0, 2, 8});
  const std::int64_t other = *halves.layout.add_tensor({"v", DType::kF8E4M3, {8, 6}, 0});
  Placement placement = halves.layout.placements(0)[0];
  placement.buffer = halves.layout.add_buffer("v", DType::kF8E4M3);
  ASSERT_TRUE(halves.layout.place(other, placement).ok());
  BesidePlacer placer(&halves.layout);
  const std::int64_t a = *placer.add_dense(0, halves.grid, {"a", DType::kF32, {4, 2}, 0});
  const std::int64_t b = *placer.add_dense(other, halves.grid, {"b", DType::kF32, {4, 2}, 0});
  EXPECT_EQ(halves.layout.placements(a)[0].dims[0].map, halves.layout.placements(b)[0].dims[0].map);
}

}  // namespace
}  // namespace reshard
