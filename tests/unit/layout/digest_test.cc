// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Two layouts that differ in anything must not pass for one: saved plans and ranks are told apart by digests alone.

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <set>

#include "src/layout/layout.h"

namespace reshard {
namespace {

/// What a layout of one placed tensor and one explicit block is made of. Every member is in the digest.
struct Parts {
  std::int32_t num_ranks = 4;
  Tensor tensor{"w", DType::kF32, {8, 6}, 0};
  std::vector<MeshAxis> axes = {{"a", 2}, {"b", 2}};
  std::vector<std::int32_t> ranks = {0, 1, 2, 3};
  std::vector<int> axes_of_rows = {0};
  Rule rule = Rule::kChunk;
  std::int64_t padded_rows = 4;
  bool owns_padding = true;
  std::vector<int> order = {0, 1};
  std::string buffer_name = "w";
  std::int64_t offset_bytes = 0;
  Padding padding = Padding::kZero;
  std::int32_t block_rank = 1;
  std::int64_t own_bytes = 1000;
  Block block;
  bool is_placed_twice = false;
};

ModelLayout make(const Parts& parts) {
  ModelLayout layout(parts.num_ranks);
  const std::int64_t tensor = *layout.add_tensor(parts.tensor);
  Placement placement;
  placement.mesh = *Mesh::create(parts.axes, parts.ranks);
  placement.buffer = layout.add_offset_buffer(parts.buffer_name);
  placement.offset_bytes = parts.offset_bytes;
  placement.order = parts.order;
  placement.padding = parts.padding;
  Split split;
  split.num_parts = 2;
  split.rule = parts.rule;
  DimMap map = *make_dim_map(8, {split});
  map.owns_padding = parts.owns_padding;
  for (DimPart& part : map.parts) part.extent = parts.padded_rows;
  placement.dims = {{std::make_shared<const DimMap>(std::move(map)), parts.axes_of_rows}, {}};
  EXPECT_TRUE(layout.place(tensor, placement).ok());
  EXPECT_TRUE(!parts.is_placed_twice || layout.place(tensor, placement).ok());
  Block block = parts.block;
  block.tensor = tensor;
  block.buffer = *layout.add_rank_buffer(parts.block_rank, "own", parts.own_bytes);
  block.box.num_dims = 2;
  EXPECT_TRUE(layout.add_block(parts.block_rank, block).ok());
  return layout;
}

Parts usual() {
  Parts parts;
  parts.block.box.end[0] = 2;
  parts.block.box.end[1] = 3;
  parts.block.strides_bytes[0] = 12;
  parts.block.strides_bytes[1] = 4;
  return parts;
}

struct Change {
  const char* name;
  std::function<void(Parts*)> apply;
};

std::ostream& operator<<(std::ostream& out, const Change& change) {
  return out << change.name;
}

const std::vector<Change>& changes() {
  static const std::vector<Change> kChanges = {
      {"NumRanks", [](Parts* p) { p->num_ranks = 5; }},
      {"Name", [](Parts* p) { p->tensor.name = "v"; }},
      {"Dtype", [](Parts* p) { p->tensor.dtype = DType::kU32; }},
      {"Shape", [](Parts* p) { p->tensor.shape[1] = 7; }},
      {"Group", [](Parts* p) { p->tensor.group = -1; }},
      {"AxisName", [](Parts* p) { p->axes[0].name = "c"; }},
      {"AxisSizes",
       [](Parts* p) {
         p->axes = {{"a", 2}, {"b", 1}}, p->ranks = {0, 1};
       }},
      {"OrderOfRanks",
       [](Parts* p) {
         p->ranks = {0, 1, 3, 2};
       }},
      {"AxisOfDim", [](Parts* p) { p->axes_of_rows = {1}; }},
      {"Rule", [](Parts* p) { p->rule = Rule::kCyclic; }},
      {"PaddedExtent", [](Parts* p) { p->padded_rows = 5; }},
      {"OwnerOfPadding", [](Parts* p) { p->owns_padding = false; }},
      {"MemoryOrder",
       [](Parts* p) {
         p->order = {1, 0};
       }},
      {"BufferName", [](Parts* p) { p->buffer_name = "v"; }},
      {"Offset", [](Parts* p) { p->offset_bytes = 1; }},
      {"OtherOffset", [](Parts* p) { p->offset_bytes = 2; }},
      {"PaddingKind", [](Parts* p) { p->padding = Padding::kUntouched; }},
      {"OffsetAndPaddingKind", [](Parts* p) { p->offset_bytes = 1, p->padding = Padding::kUntouched; }},
      {"PlacedTwice", [](Parts* p) { p->is_placed_twice = true; }},
      {"BlockRank", [](Parts* p) { p->block_rank = 2; }},
      {"BufferSize", [](Parts* p) { p->own_bytes = 1001; }},
      {"BlockKind", [](Parts* p) { p->block.kind = BlockKind::kZero; }},
      {"OtherBlockKind", [](Parts* p) { p->block.kind = BlockKind::kUntouched; }},
      {"BlockBegin", [](Parts* p) { p->block.box.begin[0] = 1; }},
      {"BlockEnd", [](Parts* p) { p->block.box.end[1] = 4; }},
      {"BlockOffset", [](Parts* p) { p->block.offset_bytes = 4; }},
      {"BlockStride", [](Parts* p) { p->block.strides_bytes[0] = 24; }},
  };
  return kChanges;
}

class DigestTest : public ::testing::TestWithParam<Change> {};

TEST_P(DigestTest, ChangesWith) {
  Parts changed = usual();
  GetParam().apply(&changed);
  EXPECT_NE(make(changed).digest(), make(usual()).digest());
}

INSTANTIATE_TEST_SUITE_P(Everything, DigestTest, ::testing::ValuesIn(changes()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(DigestTest, EqualLayoutsHaveEqualDigestsAndNoTwoOfTheChangedOnesHave) {
  EXPECT_EQ(make(usual()).digest(), make(usual()).digest());
  std::set<std::uint64_t> digests = {make(usual()).digest()};
  for (const Change& change : changes()) {
    Parts changed = usual();
    change.apply(&changed);
    EXPECT_TRUE(digests.insert(make(changed).digest()).second) << change.name;
  }
}

TEST(DigestTest, OfALayoutWithoutOffsetsStaysWhatItWas) {
  // Saved plans carry it: a new field must not change the digests of layouts that do not use it.
  EXPECT_EQ(make(usual()).digest(), 15050711807723497356U);
}

}  // namespace
}  // namespace reshard
