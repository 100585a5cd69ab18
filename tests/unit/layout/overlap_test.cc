// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Placements at offsets share a buffer. Whether two of them write one byte is counted byte by byte.

#include "src/layout/overlap.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "tests/unit/layout/random_layout.h"

namespace reshard {
namespace {

constexpr std::int32_t kOverlapRanks = 4;

/// Adds a random tensor at a random offset of one of the buffers.
void place_random(int number, const std::vector<std::int64_t>& buffers, ModelLayout* layout) {
  const oracle::Indices shape = oracle::random_shape(2, 3);
  const DType dtype = *rc::gen::element(DType::kU8, DType::kBF16);
  const std::int64_t tensor = *layout->add_tensor({"t" + std::to_string(number), dtype, shape, 0});
  Placement placement = oracle::random_placement(shape, kOverlapRanks).placement;
  placement.buffer = at(buffers, random(0, 1));
  placement.offset_bytes = random(0, 40);
  RC_ASSERT(layout->place(tensor, placement).ok());
}

/// Whether some byte of a buffer belongs to elements or padding of two placements.
bool shares_a_byte(const ModelLayout& layout) {
  std::map<std::tuple<std::int32_t, std::int64_t, std::int64_t>, int> writers;  // by rank, buffer, byte
  for (std::int32_t rank = 0; rank < layout.num_ranks(); ++rank) {
    for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
      const std::int64_t element_bytes = size_bytes(at(layout.tensors(), t).dtype);
      for (const Block& block : layout.blocks(rank, t)) {
        oracle::Indices extents;
        for (int d = 0; d < block.box.num_dims; ++d) extents.push_back(block.box.extent(d));
        oracle::for_each_index(extents, [&](const oracle::Indices& index) {
          std::int64_t address = block.offset_bytes;
          for (int d = 0; d < block.box.num_dims; ++d) address += at(index, d) * block.strides_bytes[d];
          for (std::int64_t b = 0; b < element_bytes; ++b) ++writers[{rank, block.buffer, address + b}];
        });
      }
    }
  }
  return std::any_of(writers.begin(), writers.end(), [](const auto& entry) { return entry.second > 1; });
}

RC_GTEST_PROP(OverlapTest, OfPlacementsAtOffsetsIsFoundToTheByte, ()) {
  ModelLayout layout(kOverlapRanks);
  const std::vector<std::int64_t> buffers = {layout.add_offset_buffer("all"), layout.add_offset_buffer("other")};
  for (int n = 0; n < random(2, 3); ++n) place_random(n, buffers, &layout);
  RC_ASSERT(check_no_overlap(layout).ok() == !shares_a_byte(layout));
}

TEST(OverlapTest, NamesBufferRankTensorsAndBytes) {
  ModelLayout layout(3);
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 2}}, {2, 0});
  placement.dims.resize(1);
  placement.buffer = layout.add_offset_buffer("all");
  ASSERT_TRUE(layout.place(*layout.add_tensor({"a", DType::kF32, {10}, 0}), placement).ok());
  placement.offset_bytes = 39;
  ASSERT_TRUE(layout.place(*layout.add_tensor({"b", DType::kU8, {1}, 0}), placement).ok());
  const Status status = check_no_overlap(layout);
  EXPECT_EQ(status.code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(status.message(),
            "destination placements overlap in buffer \"all\" of rank 0: tensor \"a\" takes bytes [0, 40) and tensor "
            "\"b\" bytes [39, 40); give other offsets");
}

TEST(OverlapTest, RanksThatLeftHoldNothing) {
  ModelLayout layout(2);
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 1}}, {1});
  placement.dims.resize(1);
  placement.buffer = layout.add_offset_buffer("all");
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(layout.place(*layout.add_tensor({name, DType::kU8, {4}, 0}), placement).ok());
  }
  EXPECT_FALSE(check_no_overlap(layout).ok());
  ASSERT_TRUE(layout.remove_ranks({1}).ok());
  EXPECT_TRUE(check_no_overlap(layout).ok());
}

}  // namespace
}  // namespace reshard
