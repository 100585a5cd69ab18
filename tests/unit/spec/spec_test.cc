// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/spec.h"

#include <gtest/gtest.h>

#include "tests/unit/spec/spec_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Indices = std::vector<std::int64_t>;

SpecLayouts parsed(const Json& spec) {
  Result<SpecLayouts> layouts = parse_spec(spec.dump());
  EXPECT_TRUE(layouts.ok()) << layouts.status().message();
  return layouts.ok() ? layouts.take() : SpecLayouts{ModelLayout(1), ModelLayout(1)};
}

std::vector<std::string> boxes(const ModelLayout& layout, std::int32_t rank) {
  std::vector<std::string> texts;
  for (const Block& block : layout.blocks(rank, 0)) {
    texts.push_back((block.kind == BlockKind::kData ? "" : "zero ") + to_string(block.box));
  }
  return texts;
}

/// The global indices that a rank has of dim 0, by local index; -1 for padding. The tensor has one dim of bytes.
Indices held(const ModelLayout& layout, std::int32_t rank) {
  Indices indices(static_cast<std::size_t>(layout.buffer_size_bytes(rank, 0)), -1);
  for (const Block& block : layout.blocks(rank, 0)) {
    if (block.kind != BlockKind::kData) continue;
    for (std::int64_t i = 0; i < block.box.extent(0); ++i)
      at(indices, block.local_begin[0] + i) = block.box.begin[0] + i;
  }
  return indices;
}

/// The same on every rank of a one-dimensional destination.
std::vector<Indices> held_by_all(const Json& spec, int num_ranks) {
  Json bytes = spec;
  bytes["tensors"][0]["dst"]["dtype"] = "U8";
  const SpecLayouts layouts = parsed(bytes);
  std::vector<Indices> all;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) all.push_back(held(layouts.dst, rank));
  return all;
}

TEST(SpecTest, ReadsTheExample) {
  const SpecLayouts layouts = parsed(example_spec());
  EXPECT_EQ(layouts.src.num_ranks(), 8);
  EXPECT_EQ(layouts.dst.num_ranks(), 8);
  for (const ModelLayout* side : {&layouts.src, &layouts.dst}) {
    ASSERT_EQ(side->tensors().size(), 1U);
    EXPECT_EQ(side->tensors()[0].name, "w");
    EXPECT_EQ(side->tensors()[0].dtype, DType::kBF16);
    EXPECT_EQ(side->tensors()[0].shape, (Indices{240, 241}));
    ASSERT_EQ(side->buffers().size(), 1U);
    EXPECT_EQ(side->buffers()[0].name, "w");
  }
  for (const std::int32_t replica : {0, 2}) {
    EXPECT_EQ(boxes(layouts.src, replica), (std::vector<std::string>{"[0:120, 0:241]"}));
    EXPECT_EQ(boxes(layouts.src, replica + 1), (std::vector<std::string>{"[120:240, 0:241]"}));
  }
  EXPECT_EQ(boxes(layouts.dst, 4), (std::vector<std::string>{"[0:240, 0:61]"}));
  EXPECT_EQ(boxes(layouts.dst, 7), (std::vector<std::string>{"[0:240, 183:241]"}));
  EXPECT_TRUE(boxes(layouts.src, 4).empty());
  EXPECT_EQ(layouts.dst.buffer_size_bytes(7, 0), 240 * 58 * 2);
}

TEST(SpecTest, GroupIsZeroUnlessGiven) {
  Json spec = example_spec();
  spec["tensors"][0].erase("group");
  EXPECT_EQ(parsed(spec).src.tensors()[0].group, 0);
  spec["tensors"][0]["group"] = -7;
  EXPECT_EQ(parsed(spec).src.tensors()[0].group, -7);
  EXPECT_EQ(parsed(spec).dst.tensors()[0].group, -7);
}

TEST(SpecTest, EachTensorHasItsOwnBufferAndSidesTheirOwnDtype) {
  Json spec = example_spec();
  Json second = spec["tensors"][0];
  second["name"] = "v";
  second["src"]["dtype"] = "F32";
  spec["tensors"].push_back(second);
  const SpecLayouts layouts = parsed(spec);
  ASSERT_EQ(layouts.src.buffers().size(), 2U);
  EXPECT_EQ(layouts.src.buffers()[1].name, "v");
  EXPECT_EQ(layouts.src.buffers_of(0), (Indices{0, 1}));
  EXPECT_EQ(layouts.src.tensors()[1].dtype, DType::kF32);
  EXPECT_EQ(layouts.dst.tensors()[1].dtype, DType::kBF16);
}

TEST(SpecTest, TensorsShareTheBufferThatTheyName) {
  Json spec = example_spec();
  Json second = spec["tensors"][0];
  second["name"] = "v";
  second["dst"]["buffer"] = "all";
  second["dst"]["offset"] = 29282;  // behind the largest piece of "w"
  spec["tensors"][0]["dst"]["buffer"] = "all";
  spec["tensors"].push_back(second);
  const SpecLayouts layouts = parsed(spec);
  EXPECT_EQ(layouts.src.buffers().size(), 2U);
  ASSERT_EQ(layouts.dst.buffers().size(), 1U);
  EXPECT_EQ(layouts.dst.buffers()[0].name, "all");
  EXPECT_EQ(layouts.dst.blocks(4, 0).at(0).offset_bytes, 0);
  EXPECT_EQ(layouts.dst.blocks(4, 1).at(0).offset_bytes, 29282);
  EXPECT_EQ(layouts.dst.buffer_size_bytes(4, 0), 29282 + 240 * 61 * 2);
  EXPECT_EQ(layouts.dst.buffer_size_bytes(7, 0), 29282 + 240 * 58 * 2);
}

TEST(SpecTest, AListOfPlacementsPlacesATensorMoreThanOnce) {
  Json spec = example_spec();
  Json& dst = spec["tensors"][0]["dst"];
  Json whole = dst;
  whole["mesh"] = Json::parse(R"({"axes": [["x", 2]], "ranks": [1, 4]})");
  whole["placements"] = {"replicate"};
  dst = Json::array({dst, whole});
  const SpecLayouts layouts = parsed(spec);
  EXPECT_EQ(layouts.dst.placements(0).size(), 2U);
  EXPECT_EQ(boxes(layouts.dst, 1), (std::vector<std::string>{"[0:240, 0:241]"}));
  EXPECT_EQ(boxes(layouts.dst, 4), (std::vector<std::string>{"[0:240, 0:61]", "[0:240, 0:241]"}));
  EXPECT_EQ(layouts.dst.buffers_of(4), (Indices{0, 1}));  // each placement has a buffer of its own
}

TEST(SpecTest, ChunkIsTheDefaultRuleAndLeavesEmptyShards) {
  const std::vector<Indices> want = {{0, 1}, {2, 3}, {4}, {}};
  EXPECT_EQ(held_by_all(spec_with("[5]", 4, R"([{"shard": 0}])"), 4), want);
  EXPECT_EQ(held_by_all(spec_with("[5]", 4, R"([{"shard": 0, "rule": "chunk"}])"), 4), want);
}

TEST(SpecTest, BalancedDiffersByOneLargerFirst) {
  EXPECT_EQ(held_by_all(spec_with("[7]", 3, R"([{"shard": 0, "rule": "balanced"}])"), 3),
            (std::vector<Indices>{{0, 1, 2}, {3, 4}, {5, 6}}));
}

TEST(SpecTest, EvenDivides) {
  EXPECT_EQ(held_by_all(spec_with("[4]", 2, R"([{"shard": 0, "rule": "even"}])"), 2),
            (std::vector<Indices>{{0, 1}, {2, 3}}));
}

TEST(SpecTest, CutsMayLeaveCoordinatesEmpty) {
  EXPECT_EQ(held_by_all(spec_with("[4]", 3, R"([{"shard": 0, "cuts": [0, 3, 3, 4]}])"), 3),
            (std::vector<Indices>{{0, 1, 2}, {}, {3}}));
}

TEST(SpecTest, BlocksAreDealtInTurn) {
  EXPECT_EQ(held_by_all(spec_with("[7]", 2, R"([{"shard": 0, "block": 2}])"), 2),
            (std::vector<Indices>{{0, 1, 4, 5}, {2, 3, 6}}));
}

TEST(SpecTest, TablesListIndicesAndRangesInLocalOrder) {
  EXPECT_EQ(held_by_all(spec_with("[8]", 3, R"([{"shard": 0, "table": [[7, [0, 3], 7], [], [[2, 2], [4, 6]]]}])"), 3),
            (std::vector<Indices>{{7, 0, 1, 2, 7}, {}, {4, 5}}));
}

/// One dim of 12 over the mesh a = 2, b = 3 of ranks 0 to 5.
Json two_axes(const char* a, const char* b, const char* nest) {
  Json spec = spec_with("[12]", 6, "[]");
  Json& dst = spec["tensors"][0]["dst"];
  dst["mesh"]["axes"] = Json::parse(R"([["a", 2], ["b", 3]])");
  dst["placements"] = {Json::parse(a), Json::parse(b)};
  if (nest != nullptr) dst["nest"] = nest;
  return spec;
}

TEST(SpecTest, AxesOnOneDimensionNestLeftToRight) {
  const char* shard = R"({"shard": 0})";
  const std::vector<Indices> want = {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}};
  EXPECT_EQ(held_by_all(two_axes(shard, shard, nullptr), 6), want);
  EXPECT_EQ(held_by_all(two_axes(shard, shard, "outer_first"), 6), want);
}

TEST(SpecTest, InnerFirstTurnsTheNestingRound) {
  // b cuts 12 into three of 4, then a each of these into two of 2; ranks are a-major.
  const char* shard = R"({"shard": 0})";
  EXPECT_EQ(held_by_all(two_axes(shard, shard, "inner_first"), 6),
            (std::vector<Indices>{{0, 1}, {4, 5}, {8, 9}, {2, 3}, {6, 7}, {10, 11}}));
}

TEST(SpecTest, TheNextAxisSplitsTheListThatTheFirstLeaves) {
  // Blocks of 1 over a leave the even and the odd indices; b cuts positions of these lists.
  EXPECT_EQ(held_by_all(two_axes(R"({"shard": 0, "block": 1})", R"({"shard": 0, "cuts": [0, 1, 3, 6]})", nullptr), 6),
            (std::vector<Indices>{{0}, {2, 4}, {6, 8, 10}, {1}, {3, 5}, {7, 9, 11}}));
}

TEST(SpecTest, RanksAreRowMajorInAnyOrder) {
  Json spec = two_axes(R"({"shard": 0})", "\"replicate\"", nullptr);
  spec["tensors"][0]["dst"]["mesh"]["ranks"] = {5, 0, 3, 1, 4, 2};
  const Indices low = {0, 1, 2, 3, 4, 5};
  const Indices high = {6, 7, 8, 9, 10, 11};
  EXPECT_EQ(held_by_all(spec, 6), (std::vector<Indices>{low, high, high, low, high, low}));
}

TEST(SpecTest, OrderIsTheMemoryOrderOfTheLocalDims) {
  const SpecLayouts layouts = parsed(spec_with("[6, 4]", 2, R"([{"shard": 0}])", R"({"order": [1, 0]})"));
  const Block block = layouts.dst.blocks(1, 0).at(0);
  EXPECT_EQ(to_string(block.box), "[3:6, 0:4]");
  EXPECT_EQ(block.strides_bytes[0], 2);      // bf16: dim 0 is the fastest
  EXPECT_EQ(block.strides_bytes[1], 3 * 2);  // over the 3 local rows
}

TEST(SpecTest, PadToGivesAllRanksOneShapeWithAZeroTail) {
  const Json spec = spec_with("[5, 3]", 4, R"([{"shard": 0}])", R"({"pad_to": [2, 4]})");
  const ModelLayout dst = parsed(spec).dst;
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    Dims shape;
    ASSERT_TRUE(dst.local_shape(rank, 0, &shape));
    EXPECT_EQ(shape[0], 2);
    EXPECT_EQ(shape[1], 4);
    EXPECT_EQ(dst.buffer_size_bytes(rank, 0), 2 * 4 * 2);
    std::int64_t elements = 0;
    for (const Block& block : dst.blocks(rank, 0)) {
      EXPECT_NE(block.kind, BlockKind::kUntouched);
      elements += block.box.num_elements();
    }
    EXPECT_EQ(elements, 8);
  }
  EXPECT_EQ(boxes(dst, 1).front(), "[2:4, 0:3]");
  EXPECT_EQ(boxes(dst, 2).front(), "[4:5, 0:3]");
  EXPECT_EQ(boxes(dst, 3), (std::vector<std::string>{"zero [0:2, 0:4]"}));
}

TEST(SpecTest, ScalarsReplicate) {
  const SpecLayouts layouts = parsed(spec_with("[]", 2, R"(["replicate"])", R"({"order": [], "pad_to": []})"));
  EXPECT_EQ(boxes(layouts.src, 3), (std::vector<std::string>{"[]"}));
  EXPECT_EQ(boxes(layouts.dst, 1), (std::vector<std::string>{"[]"}));
  EXPECT_EQ(layouts.dst.buffer_size_bytes(1, 0), 2);
}

TEST(SpecTest, ZeroSizesArePlacedAndEmpty) {
  for (const char* rule : {R"("rule": "chunk")", R"("rule": "balanced")", R"("rule": "even")", R"("cuts": [0, 0, 0])",
                           R"("block": 3)", R"("table": [[], [[0, 0]]])"}) {
    const std::string placements = std::string(R"([{"shard": 0, )") + rule + "}]";
    const SpecLayouts layouts = parsed(spec_with("[0, 4]", 2, placements.c_str()));
    Dims shape;
    ASSERT_TRUE(layouts.dst.local_shape(1, 0, &shape));
    EXPECT_EQ(shape[0], 0);
    EXPECT_EQ(shape[1], 4);
    EXPECT_TRUE(boxes(layouts.dst, 1).empty());
    EXPECT_EQ(layouts.dst.buffer_size_bytes(1, 0), 0);
  }
}

TEST(SpecTest, NoTensorsIsAnEmptyTransfer) {
  Json spec = example_spec();
  spec["tensors"] = Json::array();
  EXPECT_TRUE(parsed(spec).src.tensors().empty());
}

TEST(SpecTest, DtypesAreInAnyCase) {
  for (const char* dtype : {"BF16", "F32", "F8_E4M3", "I64", "bool", "f8_e5m2"}) {
    Json spec = example_spec();
    spec["tensors"][0]["dst"]["dtype"] = dtype;
    EXPECT_EQ(parsed(spec).dst.tensors()[0].dtype, *parse_dtype(dtype));
  }
}

TEST(SpecTest, EqualMeshesAreShared) {
  Json spec = example_spec();
  spec["tensors"].push_back(spec["tensors"][0]);
  spec["tensors"][1]["name"] = "v";
  const SpecLayouts layouts = parsed(spec);
  EXPECT_EQ(layouts.src.placements(0)[0].mesh, layouts.src.placements(1)[0].mesh);
  EXPECT_NE(layouts.src.placements(0)[0].mesh, layouts.dst.placements(0)[0].mesh);
}

}  // namespace
}  // namespace reshard
