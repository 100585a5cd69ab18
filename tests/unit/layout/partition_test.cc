// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/partition.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layout/random_layout.h"

namespace reshard {
namespace {

using oracle::Indices;

constexpr std::int32_t kPartitionRanks = 9;

using Ranks = std::vector<std::int32_t>;
using HoldersOf = std::map<Indices, Ranks>;  // by element; ranks sorted and distinct

void add_holder(const Indices& element, std::int32_t rank, HoldersOf* holders) {
  Ranks& ranks = (*holders)[element];
  const auto place = std::lower_bound(ranks.begin(), ranks.end(), rank);
  if (place == ranks.end() || *place != rank) ranks.insert(place, rank);
}

void add_holders(const oracle::RandomPlacement& given, HoldersOf* holders) {
  const std::vector<std::int32_t>& ranks = given.placement.mesh->ranks();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(ranks.size()); ++i) {
    const std::vector<Indices> lists = oracle::local_lists(given, i);
    oracle::for_each_index(oracle::shape_of(lists), [&](const Indices& local) {
      Indices element;
      for (std::size_t d = 0; d < lists.size(); ++d) element.push_back(at(lists[d], local[d]));
      const bool is_padding = std::count(element.begin(), element.end(), oracle::kPadding) > 0;
      if (!is_padding) add_holder(element, at(ranks, i), holders);
    });
  }
}

/// Every element is in one cell, with its holders, if it has any; else in none.
void check_cells(const std::vector<Cell>& cells, const RankSets& sets, const Indices& shape, const HoldersOf& holders) {
  oracle::for_each_index(shape, [&](const Indices& element) {
    std::vector<const Cell*> found;
    for (const Cell& cell : cells) {
      if (oracle::contains(cell.box, element)) found.push_back(&cell);
    }
    const auto want = holders.find(element);
    RC_ASSERT(found.size() == (want == holders.end() ? 0U : 1U));
    if (want != holders.end()) RC_ASSERT(sets.ranks(found[0]->holders) == want->second);
  });
  for (std::size_t i = 0; i < cells.size(); ++i) {
    RC_ASSERT(!cells[i].box.empty());
    RC_ASSERT(cells[i].box.num_dims == static_cast<int>(shape.size()));
    for (int d = 0; d < cells[i].box.num_dims; ++d) {
      RC_ASSERT((cells[i].box.begin[d] >= 0 && cells[i].box.end[d] <= at(shape, d)));
    }
    if (i == 0) continue;
    const Dims& before = cells[i - 1].box.begin;
    const Dims& here = cells[i].box.begin;
    const int num_dims = cells[i].box.num_dims;
    RC_ASSERT(
        std::lexicographical_compare(before.values, before.values + num_dims, here.values, here.values + num_dims));
  }
}

Box random_box(const Indices& shape) {
  Box box = whole_box(shape);
  for (int d = 0; d < box.num_dims; ++d) {
    box.begin[d] = random(0, at(shape, d));
    box.end[d] = random(box.begin[d], at(shape, d));
  }
  return box;
}

RC_GTEST_PROP(PartitionTest, EveryElementHasItsHolders, ()) {
  const Indices shape = oracle::random_shape(3, 6);
  ModelLayout layout(kPartitionRanks);
  const std::int64_t tensor = *layout.add_tensor({"w", DType::kU8, shape, 0});
  HoldersOf holders;
  const bool is_swept = random(0, 2) == 0;  // one placement alone takes another way
  for (std::int64_t n = is_swept ? random(0, 2) : 1; n > 0; --n) {
    oracle::RandomPlacement given = oracle::random_placement(shape, kPartitionRanks);
    given.placement.buffer = layout.add_buffer("w", DType::kU8);
    add_holders(given, &holders);
    RC_ASSERT(layout.place(tensor, std::move(given.placement)).ok());
  }
  for (std::int64_t n = is_swept ? random(0, 2) : 0; n > 0; --n) {
    Block block;
    block.tensor = tensor;
    block.box = random_box(shape);
    const auto rank = static_cast<std::int32_t>(random(0, kPartitionRanks - 1));
    block.buffer = *layout.add_rank_buffer(rank, "block", 1);  // strides of 0: all elements at one address
    RC_ASSERT(layout.add_block(rank, block).ok());
    oracle::for_each_index(shape, [&](const Indices& element) {
      if (oracle::contains(block.box, element)) add_holder(element, rank, &holders);
    });
  }
  RankSets sets;
  Partitioner partitioner(layout, &sets);
  const std::int32_t id = partitioner.partition_of(tensor);
  check_cells(partitioner.partition(id).cells, sets, shape, holders);
}

RC_GTEST_PROP(PartitionTest, SweepUnitesTheHoldersOfOverlappingBoxes, ()) {
  const Indices shape = oracle::random_shape(3, 6);
  RankSets sets;
  HoldersOf holders;
  std::vector<Cell> boxes;
  for (std::int64_t n = random(0, 6); n > 0; --n) {
    Ranks ranks;
    for (std::int32_t rank = 0; rank < kPartitionRanks; ++rank) {
      if (random(0, 2) == 0) ranks.push_back(rank);
    }
    boxes.push_back({random_box(shape), sets.intern(ranks)});
    oracle::for_each_index(shape, [&](const Indices& element) {
      if (!oracle::contains(boxes.back().box, element)) return;
      for (const std::int32_t rank : ranks) add_holder(element, rank, &holders);
    });
  }
  check_cells(sweep_cells(static_cast<int>(shape.size()), boxes, &sets), sets, shape, holders);
}

TEST(PartitionTest, SweepKeepsDisjointBoxesWhole) {
  RankSets sets;
  const std::int32_t one = sets.intern({1});
  const std::int32_t two = sets.intern({2});
  Box left = whole_box({4, 4});
  left.end[1] = 2;
  Box right = whole_box({4, 4});
  right.begin[1] = 2;
  const std::vector<Cell> cells = sweep_cells(2, {{right, two}, {left, one}, {left, two}}, &sets);
  ASSERT_EQ(cells.size(), 2U);
  EXPECT_EQ(cells[0].box, left);
  EXPECT_EQ(sets.ranks(cells[0].holders), (Ranks{1, 2}));
  EXPECT_EQ(cells[1].box, right);
  EXPECT_EQ(sets.ranks(cells[1].holders), (Ranks{2}));
}

RC_GTEST_PROP(RankSetsTest, EqualSetsHaveOneIdAndUniteIsTheUnion, ()) {
  RankSets sets;
  std::vector<std::set<std::int32_t>> given;
  std::vector<std::int32_t> ids;
  for (std::int64_t n = random(1, 8); n > 0; --n) {
    std::set<std::int32_t> ranks;
    for (std::int64_t i = random(0, 3); i > 0; --i) ranks.insert(static_cast<std::int32_t>(random(0, 3)));
    ids.push_back(sets.intern(Ranks(ranks.begin(), ranks.end())));
    given.push_back(ranks);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    RC_ASSERT((ids[i] == 0) == given[i].empty());
    for (std::int32_t rank = 0; rank < 4; ++rank) RC_ASSERT(sets.contains(ids[i], rank) == given[i].contains(rank));
    for (std::size_t j = 0; j < ids.size(); ++j) {
      RC_ASSERT((ids[i] == ids[j]) == (given[i] == given[j]));
      std::set<std::int32_t> both = given[i];
      both.insert(given[j].begin(), given[j].end());
      const std::int32_t united = sets.unite(ids[i], ids[j]);
      RC_ASSERT(sets.ranks(united) == Ranks(both.begin(), both.end()));
    }
  }
}

DimPlacement sharded(std::int64_t extent, std::int64_t parts, int axis) {
  Split split;
  split.num_parts = parts;
  return {std::make_shared<const DimMap>(*make_dim_map(extent, {split})), {axis}};
}

TEST(PartitionTest, HugeTensorsArePartitionedWithoutEnumeration) {
  const std::int64_t rows = std::int64_t{1} << 40;
  const std::int64_t columns = (std::int64_t{1} << 18) + 1;
  ModelLayout layout(12);
  const std::int64_t tensor = *layout.add_tensor({"huge", DType::kF32, {rows, columns}, 0});
  Placement placement;
  placement.mesh = *Mesh::create({{"dp", 2}, {"fsdp", 3}, {"tp", 2}}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  placement.dims = {sharded(rows, 3, 1), sharded(columns, 2, 2)};
  placement.buffer = layout.add_buffer("huge", DType::kF32);
  ASSERT_TRUE(layout.place(tensor, placement).ok());
  RankSets sets;
  Partitioner partitioner(layout, &sets);
  const std::vector<Cell>& cells = partitioner.partition(partitioner.partition_of(tensor)).cells;
  ASSERT_EQ(cells.size(), 6U);
  std::int64_t total = 0;
  for (const Cell& cell : cells) total += cell.box.num_elements();
  EXPECT_EQ(total, rows * columns);
  const std::int64_t third = (rows + 2) / 3;
  EXPECT_EQ(cells[3].box.begin[0], third);
  EXPECT_EQ(cells[3].box.end[0], 2 * third);
  EXPECT_EQ(cells[3].box.begin[1], (std::int64_t{1} << 17) + 1);
  EXPECT_EQ(cells[3].box.end[1], columns);
  EXPECT_EQ(sets.ranks(cells[3].holders), (Ranks{3, 9}));  // (dp, 1, 1)
  EXPECT_EQ(layout.buffer_size_bytes(3, 0), third * (std::int64_t{1} << 17) * 4);
}

TEST(PartitionTest, ARankThatHoldsAnIndexTwiceIsOneHolder) {
  Split split;
  split.rule = Rule::kTable;
  split.num_parts = 2;
  split.table = {{{0, 3}, {1, 2}, {0, 1}}, {{1, 2}}};
  ModelLayout layout(2);
  const std::int64_t tensor = *layout.add_tensor({"experts", DType::kU8, {4}, 0});
  Placement placement;
  placement.mesh = *Mesh::create({{"ep", 2}}, {0, 1});
  placement.dims = {{std::make_shared<const DimMap>(*make_dim_map(4, {split})), {0}}};
  placement.buffer = layout.add_buffer("experts", DType::kU8);
  ASSERT_TRUE(layout.place(tensor, placement).ok());
  RankSets sets;
  Partitioner partitioner(layout, &sets);
  std::vector<std::pair<std::string, Ranks>> cells;
  for (const Cell& cell : partitioner.partition(partitioner.partition_of(tensor)).cells) {
    cells.emplace_back(to_string(cell.box), sets.ranks(cell.holders));
  }
  EXPECT_EQ(cells, (std::vector<std::pair<std::string, Ranks>>{{"[0:1]", {0}}, {"[1:2]", {0, 1}}, {"[2:3]", {0}}}));
}

TEST(PartitionTest, TensorsOfEqualStructureShareAPartition) {
  ModelLayout layout(4);
  Placement placement;
  placement.mesh = *Mesh::create({{"tp", 4}}, {0, 1, 2, 3});
  placement.dims = {sharded(8, 4, 0), {}};
  for (const char* name : {"a", "b", "c"}) {
    const std::int64_t tensor = *layout.add_tensor({name, DType::kU8, {8, std::string(name) == "c" ? 5 : 3}, 0});
    placement.buffer = layout.add_buffer(name, DType::kU8);
    ASSERT_TRUE(layout.place(tensor, placement).ok());
  }
  RankSets sets;
  Partitioner partitioner(layout, &sets);
  EXPECT_EQ(partitioner.partition_of(0), partitioner.partition_of(1));
  EXPECT_NE(partitioner.partition_of(0), partitioner.partition_of(2));
}

}  // namespace
}  // namespace reshard
