// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// What the builders of a ModelLayout refuse, and that a refusal leaves nothing behind.

#include <gtest/gtest.h>

#include "src/layout/layout.h"

namespace reshard {
namespace {

void expect_error(const Status& status, reshard_status_t code, const std::string& text) {
  EXPECT_EQ(status.code(), code) << text;
  EXPECT_NE(status.message().find(text), std::string::npos) << status.message();
}

void expect_invalid(const Status& status, const std::string& text) {
  expect_error(status, RESHARD_ERR_INVALID_ARGUMENT, text);
}

/// A layout of 4 ranks with one tensor "w" of [6, 4] in F32, a buffer for placements, and a mesh of 2 x 2.
class LayoutErrorTest : public ::testing::Test {
 protected:
  ModelLayout layout{4};
  std::int64_t tensor = *layout.add_tensor({"w", DType::kF32, {6, 4}, 0});
  std::int64_t buffer = layout.add_buffer("w", DType::kF32);

  Placement placement() const {
    Placement placed;
    placed.mesh = *Mesh::create({{"a", 2}, {"b", 2}}, {0, 1, 2, 3});
    placed.dims.resize(2);
    placed.buffer = buffer;
    return placed;
  }

  static DimMapPtr halves(std::int64_t extent) {
    Split split;
    split.num_parts = 2;
    return std::make_shared<const DimMap>(*make_dim_map(extent, {split}));
  }

  Block block(std::int64_t in_buffer) const {
    Block given;
    given.tensor = tensor;
    given.buffer = in_buffer;
    given.box = whole_box({6, 4});
    given.strides_bytes[0] = 16;
    given.strides_bytes[1] = 4;
    return given;
  }
};

TEST_F(LayoutErrorTest, TensorsAreChecked) {
  expect_invalid(layout.add_tensor({"", DType::kF32, {1}, 0}).status(), "empty name");
  expect_invalid(layout.add_tensor({"w", DType::kF32, {1}, 0}).status(), "\"w\"");
  expect_invalid(layout.add_tensor({"x", DType::kF32, {3, -2}, 0}).status(), "-2");
  expect_invalid(layout.add_tensor({"x", DType::kF32, std::vector<std::int64_t>(9, 1), 0}).status(), "9 dims");
  expect_invalid(layout.add_tensor({"x", DType::kF32, {INT64_MAX, 2}, 0}).status(), "\"x\"");
  expect_invalid(layout.add_tensor({"x", DType::kF32, {std::int64_t{1} << 61}, 0}).status(), "2^62 bytes");
  expect_invalid(layout.add_tensor({"x", static_cast<DType>(99), {1}, 0}).status(), "99");
  EXPECT_EQ(layout.tensors().size(), 1U);
  EXPECT_EQ(layout.find_tensor("x"), -1);
  EXPECT_EQ(layout.find_tensor("w"), tensor);
}

TEST_F(LayoutErrorTest, PlacementMustMatchTensorAndMesh) {
  Placement bad = placement();
  bad.dims.pop_back();
  expect_invalid(layout.place(tensor, bad), "\"w\"");
  bad = placement();
  bad.dims[0] = {halves(6), {0, 1}};
  expect_invalid(layout.place(tensor, bad), "2 parts for 4 coordinates");
  bad = placement();
  bad.dims = {{halves(6), {0}}, {halves(4), {0}}};
  expect_invalid(layout.place(tensor, bad), "more than one dim");
  bad = placement();
  bad.dims[0] = {halves(6), {2}};
  expect_invalid(layout.place(tensor, bad), "axis 2");
  bad = placement();
  bad.dims[0] = {halves(8), {0}};
  expect_invalid(layout.place(tensor, bad), "[4, 8)");
  bad = placement();
  bad.mesh = nullptr;
  expect_invalid(layout.place(tensor, bad), "mesh");
  bad = placement();
  bad.mesh = *Mesh::create({{"a", 2}, {"b", 1}}, {1, 4});
  expect_invalid(layout.place(tensor, bad), "rank 4");
  EXPECT_TRUE(layout.placements(tensor).empty());
  EXPECT_TRUE(layout.place(tensor, placement()).ok());
}

TEST_F(LayoutErrorTest, PlacementMustNameAnOrderAndABuffer) {
  for (const std::vector<int>& order : {std::vector<int>{0}, {0, 0}, {0, 2}, {-1, 0}, {0, 1, 2}}) {
    Placement bad = placement();
    bad.order = order;
    expect_invalid(layout.place(tensor, bad), "permutation");
  }
  Placement bad = placement();
  bad.buffer = 7;
  expect_invalid(layout.place(tensor, bad), "buffer 7");
  bad.buffer = *layout.add_rank_buffer(0, "own", 96);
  expect_invalid(layout.place(tensor, bad), "not one for placements");
  expect_invalid(layout.place(5, placement()), "tensor 5");
}

TEST_F(LayoutErrorTest, OffsetsStayWithin62BitsAndInBuffersForThem) {
  Placement bad = placement();
  bad.offset_bytes = 8;
  expect_invalid(layout.place(tensor, bad), "of one array");
  bad.buffer = layout.add_offset_buffer("all");
  EXPECT_TRUE(layout.place(tensor, bad).ok());
  bad.offset_bytes = -1;
  expect_invalid(layout.place(tensor, bad), "offset -1");
  constexpr std::int64_t kEnd = std::int64_t{1} << 62;  // the array of the tensor takes 96 bytes
  bad.offset_bytes = kEnd - 95;
  expect_invalid(layout.place(tensor, bad), "\"w\"");
  bad.offset_bytes = kEnd - 96;
  EXPECT_TRUE(layout.place(tensor, bad).ok());
  EXPECT_EQ(layout.buffer_size_bytes(3, bad.buffer), kEnd);
}

TEST_F(LayoutErrorTest, SegmentsOfAPartShareNoLocalIndex) {
  DimMap map;
  map.parts = {{{{0, 2, 0}, {2, 4, 2}}, 4}, {{{4, 6, 0}}, 4}};
  Placement placed = placement();
  placed.dims[0] = {std::make_shared<const DimMap>(map), {0}};
  EXPECT_TRUE(layout.place(tensor, placed).ok());
  for (const std::int64_t local : {1, 0}) {
    map.parts[0].segments[1].local = local;
    placed.dims[0].map = std::make_shared<const DimMap>(map);
    expect_invalid(layout.place(tensor, placed), "dim 0, coordinate 0: segment [2, 4) at");
  }
  map.parts[0] = {{}, -1};
  placed.dims[0].map = std::make_shared<const DimMap>(map);
  expect_invalid(layout.place(tensor, placed), "extent is -1");
}

TEST(WorldTest, HasABound) {
  EXPECT_TRUE(check_num_ranks(1).ok());
  EXPECT_TRUE(check_num_ranks(kMaxRanks).ok());
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{kMaxRanks} + 1, INT64_MAX}) {
    expect_invalid(check_num_ranks(count), std::to_string(count));
  }
}

TEST_F(LayoutErrorTest, BlocksStayInsideTensorRankAndBuffer) {
  const std::int64_t own = *layout.add_rank_buffer(1, "own", 96);
  Block bad = block(own);
  EXPECT_TRUE(layout.add_block(1, bad).ok());
  expect_invalid(layout.add_block(2, bad), "rank 2");
  expect_invalid(layout.add_block(4, bad), "rank 4");
  bad.box.end[1] = 5;
  expect_invalid(layout.add_block(1, bad), "[0:6, 0:5]");
  bad = block(own);
  bad.box.begin[0] = -1;
  expect_invalid(layout.add_block(1, bad), "[-1:6, 0:4]");
  bad = block(9);
  expect_invalid(layout.add_block(1, bad), "buffer 9");
  bad = block(own);
  bad.tensor = 3;
  expect_invalid(layout.add_block(1, bad), "tensor 3");
  bad = block(own);
  bad.box = whole_box({6});
  expect_invalid(layout.add_block(1, bad), "1 dims");
  EXPECT_EQ(layout.rank_blocks(tensor).size(), 1U);
}

TEST_F(LayoutErrorTest, BlocksStayInsideTheirBuffer) {
  const std::int64_t own = *layout.add_rank_buffer(1, "own", 96);
  const auto expect_too_small = [&](const Block& bad) {
    expect_error(layout.add_block(1, bad), RESHARD_ERR_BUFFER_TOO_SMALL, "96");
  };
  Block bad = block(own);
  bad.offset_bytes = 1;
  expect_too_small(bad);
  bad.offset_bytes = -1;
  expect_too_small(bad);
  bad.offset_bytes = INT64_MAX;
  expect_too_small(bad);
  bad = block(own);
  bad.strides_bytes[0] = -16;
  expect_too_small(bad);
  bad.offset_bytes = 80;  // backwards, from the last row
  EXPECT_TRUE(layout.add_block(1, bad).ok());
  for (const std::int64_t stride : {INT64_MAX, INT64_MIN, INT64_MAX / 5, std::int64_t{17}}) {
    bad = block(own);
    bad.strides_bytes[0] = stride;
    expect_too_small(bad);
  }
  EXPECT_EQ(layout.rank_blocks(tensor).size(), 1U);
}

TEST_F(LayoutErrorTest, RankBuffersAreChecked) {
  expect_invalid(layout.add_rank_buffer(4, "x", 1).status(), "rank 4");
  expect_invalid(layout.add_rank_buffer(-1, "x", 1).status(), "rank -1");
  expect_invalid(layout.add_rank_buffer(0, "x", -1).status(), "-1");
  EXPECT_EQ(layout.buffers().size(), 1U);
}

TEST_F(LayoutErrorTest, AFlatRangeIsAddedWholeOrNotAtAll) {
  const std::int64_t own = *layout.add_rank_buffer(1, "own", 32);
  expect_invalid(layout.add_flat_range(1, tensor, -1, 4, own, 0), "[-1, 4)");
  expect_invalid(layout.add_flat_range(1, tensor, 4, 25, own, 0), "24 elements");
  expect_invalid(layout.add_flat_range(1, tensor, 4, 3, own, 0), "[4, 3)");
  expect_invalid(layout.add_flat_range(1, tensor, 0, 4, own, -4), "-4");
  expect_invalid(layout.add_flat_range(1, tensor, 0, 4, own, INT64_MAX - 3), "offset");
  expect_invalid(layout.add_flat_range(1, 8, 0, 4, own, 0), "tensor 8");
  expect_invalid(layout.add_flat_range(2, tensor, 0, 4, own, 0), "rank 2: buffer");
  expect_invalid(layout.add_flat_range(4, tensor, 0, 4, own, 0), "ranks are 0 to 3");
  expect_invalid(layout.add_flat_range(1, tensor, 0, 4, 9, 0), "buffer 9");
  const std::int64_t huge = *layout.add_tensor({"huge", DType::kU8, {4, std::int64_t{1} << 60}, 0});
  expect_invalid(layout.add_flat_range(1, huge, 0, 4, own, 0), "2^59");
  // Elements 2 to 10 are three boxes; the buffer holds the first two of them.
  expect_error(layout.add_flat_range(1, tensor, 2, 11, own, 0), RESHARD_ERR_BUFFER_TOO_SMALL, "32");
  EXPECT_FALSE(layout.has_rank_blocks(tensor));
  EXPECT_TRUE(layout.add_flat_range(1, tensor, 7, 7, own, 0).ok());  // of no elements
  EXPECT_FALSE(layout.has_rank_blocks(tensor));
  EXPECT_TRUE(layout.add_flat_range(1, tensor, 2, 10, own, 0).ok());
  EXPECT_EQ(layout.rank_blocks(tensor).size(), 3U);
}

}  // namespace
}  // namespace reshard
