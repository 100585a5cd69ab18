// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/dim_map.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layout/oracle.h"

namespace reshard {
namespace {

using oracle::Indices;

Split rule(Rule rule, std::int64_t num_parts) {
  Split split;
  split.rule = rule;
  split.num_parts = num_parts;
  return split;
}

Split cyclic(std::int64_t block, std::int64_t num_parts) {
  Split split = rule(Rule::kCyclic, num_parts);
  split.block = block;
  return split;
}

Split cuts(Indices positions) {
  Split split = rule(Rule::kCuts, static_cast<std::int64_t>(positions.size()) - 1);
  split.cuts = std::move(positions);
  return split;
}

Split table(std::vector<IndexList> rows) {
  Split split = rule(Rule::kTable, static_cast<std::int64_t>(rows.size()));
  split.table = std::move(rows);
  return split;
}

/// What each coordinate holds, by the code under test.
std::vector<Indices> parts_of(std::int64_t extent, const std::vector<Split>& splits) {
  Result<DimMap> map = make_dim_map(extent, splits);
  EXPECT_TRUE(map.ok()) << map.status().message();
  std::vector<Indices> parts;
  if (!map.ok()) return parts;
  for (const DimPart& part : map->parts) parts.push_back(oracle::indices_of(part));
  return parts;
}

Indices sizes_of(std::int64_t extent, const Split& split) {
  Result<DimMap> map = make_dim_map(extent, {split});
  EXPECT_TRUE(map.ok()) << map.status().message();
  Indices sizes;
  for (const DimPart& part : map->parts) sizes.push_back(part.extent);
  return sizes;
}

/// The parts follow the brute force, and their segments are what DimPart promises.
void check_map(const DimMap& map, const std::vector<Indices>& want) {
  RC_ASSERT(map.parts.size() == want.size());
  RC_ASSERT(!map.owns_padding);
  for (std::size_t k = 0; k < want.size(); ++k) {
    RC_ASSERT(map.parts[k].extent == oracle::size_of(want[k]));
    std::int64_t local = 0;
    for (const Segment& segment : map.parts[k].segments) {
      RC_ASSERT(segment.begin < segment.end);
      RC_ASSERT(segment.local == local);
      local += segment.end - segment.begin;
    }
    RC_ASSERT(local == map.parts[k].extent);
    RC_ASSERT(oracle::indices_of(map.parts[k]) == want[k]);
  }
}

TEST(DimMapTest, ChunkIsTorchChunk) {
  EXPECT_EQ(sizes_of(10, rule(Rule::kChunk, 4)), (Indices{3, 3, 3, 1}));
  EXPECT_EQ(sizes_of(5, rule(Rule::kChunk, 4)), (Indices{2, 2, 1, 0}));
  EXPECT_EQ(sizes_of(9, rule(Rule::kChunk, 8)), (Indices{2, 2, 2, 2, 1, 0, 0, 0}));
  EXPECT_EQ(sizes_of(2, rule(Rule::kChunk, 8)), (Indices{1, 1, 0, 0, 0, 0, 0, 0}));
  Indices vocabulary(23, 6331);
  vocabulary.push_back(6323);
  EXPECT_EQ(sizes_of(151936, rule(Rule::kChunk, 24)), vocabulary);
}

TEST(DimMapTest, BalancedGivesTheRemainderToTheFirst) {
  EXPECT_EQ(sizes_of(10, rule(Rule::kBalanced, 4)), (Indices{3, 3, 2, 2}));
  EXPECT_EQ(sizes_of(2, rule(Rule::kBalanced, 4)), (Indices{1, 1, 0, 0}));
}

TEST(DimMapTest, CyclicDealsBlocksInTurn) {
  EXPECT_EQ(parts_of(7, {cyclic(2, 2)}), (std::vector<Indices>{{0, 1, 4, 5}, {2, 3, 6}}));
}

TEST(DimMapTest, TableKeepsItsOwnOrderRepeatsAndOmits) {
  const Split experts = table({{{6, 8}, {0, 1}, {7, 8}}, {}});
  EXPECT_EQ(parts_of(8, {experts}), (std::vector<Indices>{{6, 7, 0, 7}, {}}));
}

TEST(DimMapTest, UnevenNestingSplitsWhatTheOuterLeaves) {
  // chunk of 10 over 4 is 3, 3, 3, 1; each again over 2 is 2 + 1, and 1 + 0.
  EXPECT_EQ(parts_of(10, {rule(Rule::kChunk, 4), rule(Rule::kChunk, 2)}),
            (std::vector<Indices>{{0, 1}, {2}, {3, 4}, {5}, {6, 7}, {8}, {9}, {}}));
}

TEST(DimMapTest, InnerPositionsAreOfTheOuterList) {
  // Odd rows first go to coordinate 1; of these the second and third are rows 3 and 5.
  EXPECT_EQ(parts_of(8, {cyclic(1, 2), cuts({0, 1, 3, 4})}),
            (std::vector<Indices>{{0}, {2, 4}, {6}, {1}, {3, 5}, {7}}));
}

RC_GTEST_PROP(DimMapTest, SplitsAgreeWithBruteForce, ()) {
  const std::int64_t extent = random(0, 40);
  Indices axis_sizes;
  for (std::int64_t n = random(0, 3); n > 0; --n) axis_sizes.push_back(random(1, 5));
  const oracle::RandomDim dim = oracle::random_dim(extent, axis_sizes);
  const Result<DimMap> map = make_dim_map(extent, dim.splits);
  RC_ASSERT(map.ok());
  check_map(*map, dim.lists);
}

RC_GTEST_PROP(DimMapTest, SplitListSplitsAnyList, ()) {
  IndexList list;
  for (std::int64_t runs = random(0, 6); runs > 0; --runs) {
    const std::int64_t begin = random(0, 100);
    list.push_back({begin, begin + random(1, 9)});
  }
  const Indices indices = oracle::indices_of(list);
  const Split split = oracle::random_split({indices}, random(1, 6));
  const Result<std::vector<IndexList>> parts = split_list(list, split);
  RC_ASSERT(parts.ok());
  const std::vector<Indices> want = oracle::split(indices, split);
  RC_ASSERT(parts->size() == want.size());
  for (std::size_t k = 0; k < want.size(); ++k) RC_ASSERT(oracle::indices_of((*parts)[k]) == want[k]);
}

void expect_refused(std::int64_t extent, const std::vector<Split>& splits, const std::string& text) {
  const Result<DimMap> map = make_dim_map(extent, splits);
  ASSERT_FALSE(map.ok()) << text;
  EXPECT_EQ(map.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_NE(map.status().message().find(text), std::string::npos) << map.status().message();
}

TEST(DimMapTest, RefusesWhatDoesNotFit) {
  expect_refused(10, {rule(Rule::kEven, 4)}, "10 entries");
  expect_refused(10, {cuts({0, 4, 9})}, "[0, 4, 9]");
  expect_refused(10, {cuts({1, 4, 10})}, "[1, 4, 10]");
  expect_refused(10, {cuts({0, 7, 4, 10})}, "[0, 7, 4, 10]");
  expect_refused(10, {cyclic(0, 2)}, "0");
  expect_refused(8, {table({{{8, 9}}})}, "8");
  expect_refused(8, {table({{{-1, 3}}})}, "-1");
  expect_refused(8, {table({{{5, 3}}})}, "5");
  expect_refused(8, {rule(Rule::kChunk, 0)}, "0 coordinates");
}

TEST(DimMapTest, RefusesCutsThatFitOnlySomeOfTheListsTheySplit) {
  // chunk of 5 over 2 leaves 3 and 2.
  expect_refused(5, {rule(Rule::kChunk, 2), cuts({0, 2, 3})}, "[0, 2, 3]");
  expect_refused(5, {rule(Rule::kChunk, 2), table({{{2, 3}}, {{0, 1}}})}, "2");
  expect_refused(5, {rule(Rule::kChunk, 2), rule(Rule::kEven, 3)}, "2 entries");
}

TEST(DimMapTest, RefusesAbsurdNumbersOfSegments) {
  const std::int64_t huge = std::int64_t{1} << 40;
  expect_refused(huge, {cyclic(1, 2)}, "block 1");
  expect_refused(INT64_MAX, {cyclic(1, 2)}, "block 1");
  // Each row repeats a list of a million runs: the table is small, its result is not.
  IndexList row(1000, IndexRun{0, 1 << 20});
  expect_refused(1 << 21, {cyclic(1, 2), table({row})}, "pieces");
}

TEST(DimMapTest, RowsOfATableCountTogether) {
  // No row alone has too many pieces; they are refused before all of them are made.
  IndexList odd;
  for (std::int64_t i = 1; i < kMaxSegments; i += 2) odd.push_back({i, i + 1});
  const IndexRun all{0, kMaxSegments / 2};
  EXPECT_TRUE(split_list(odd, table({{all}, {all}})).ok());
  const Result<std::vector<IndexList>> split = split_list(odd, table({{all}, {all}, {{0, 1}, {0, 1}, {0, 1}}}));
  ASSERT_FALSE(split.ok());
  EXPECT_NE(split.status().message().find("pieces"), std::string::npos) << split.status().message();
}

TEST(DimMapTest, RefusesListsLongerThan62Bits) {
  const std::int64_t huge = std::int64_t{1} << 61;
  expect_refused(huge, {table({IndexList(5, IndexRun{0, huge})})}, "2^62");
}

TEST(DimMapTest, CutsBeyond32BitsSymbolically) {
  const std::int64_t huge = (std::int64_t{1} << 62) - 1;
  for (const Rule kind : {Rule::kChunk, Rule::kBalanced}) {
    const Result<DimMap> map = make_dim_map(huge, {rule(kind, 4096)});
    ASSERT_TRUE(map.ok());
    std::int64_t next = 0;
    for (const DimPart& part : map->parts) {
      ASSERT_EQ(part.segments.size(), 1U);
      EXPECT_EQ(part.segments[0].begin, next);
      next = part.segments[0].end;
    }
    EXPECT_EQ(next, huge);
  }
}

TEST(DimMapTest, BlocksLargerThanTheDimensionDoNotOverflow) {
  EXPECT_EQ(parts_of(3, {cyclic(INT64_MAX, 2)}), (std::vector<Indices>{{0, 1, 2}, {}}));
  EXPECT_EQ(sizes_of(INT64_MAX, cyclic(INT64_MAX - 1, 2)), (Indices{INT64_MAX - 1, 1}));
}

}  // namespace
}  // namespace reshard
