// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/copy_table.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <memory>
#include <vector>

#include "kernels/copy_list.h"

namespace reshard::testing {
namespace {

// Only addresses matter here; nothing is run.
const std::byte* source_at(std::int64_t offset) {
  return reinterpret_cast<const std::byte*>(std::intptr_t{1} << 40) + offset;
}
std::byte* destination_at(std::int64_t offset) {
  return reinterpret_cast<std::byte*>(std::intptr_t{1} << 41) + offset;
}

PlacedCopy copy_of(CopyTable* table, std::int64_t src, std::int64_t dst, std::int64_t num_bytes) {
  CopyOp op;
  op.src = source_at(src);
  op.dst = destination_at(dst);
  op.num_dims = 1;
  op.shape[0] = num_bytes;
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = 1;
  return table->prepare(op);
}

void expect_at(const CopyTable& table, const CopyTable::Place& place, const std::vector<PlacedCopy>& list) {
  ASSERT_EQ(table.num_copies(place), list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const PlacedCopy copy = table.copy(place, i);
    EXPECT_EQ(copy.src, list[i].src) << i;
    EXPECT_EQ(copy.dst, list[i].dst) << i;
    EXPECT_EQ(copy.shape, list[i].shape) << i;
  }
}

// What one of many ranks sends: two parts, each a constant further than those of the rank before it.
std::vector<PlacedCopy> part_of_rank(CopyTable* table, std::int64_t rank) {
  return {copy_of(table, 0, 1000 * rank, 100), copy_of(table, 100, 500'000 - 70 * rank, 70)};
}

TEST(CopyTableTest, ListsThatMoveByConstantsAreOnePattern) {
  CopyTable table;
  for (const std::int64_t rank : {5, 6, 9, 0, 5}) {  // in any order
    const std::vector<PlacedCopy> list = part_of_rank(&table, rank);
    expect_at(table, table.enter(list, 170, 0), list);
  }
  EXPECT_EQ(table.num_patterns(), 1U);
  EXPECT_EQ(table.shapes().size(), 2U);
}

TEST(CopyTableTest, AListThatMovesOtherwiseIsAPatternOfItsOwn) {
  CopyTable table;
  for (const std::int64_t rank : {1, 2}) table.enter(part_of_rank(&table, rank), 170, 0);
  std::vector<PlacedCopy> list = part_of_rank(&table, 3);
  list[1].dst += 1;
  expect_at(table, table.enter(list, 170, 0), list);
  EXPECT_EQ(table.num_patterns(), 2U);
  list = part_of_rank(&table, 4);
  expect_at(table, table.enter(list, 170, 0), list);
  EXPECT_EQ(table.num_patterns(), 2U) << "the older pattern still takes repeats";
}

// One copy moves by a byte and the other by 4 MiB: the first, 2^43 further, would be a repeat whose other copy lies
// beyond all memory.
TEST(CopyTableTest, ListsThatLieFarApartAreCompared) {
  CopyTable table;
  const auto list_of = [&](std::int64_t first, std::int64_t second) {
    return std::vector<PlacedCopy>{copy_of(&table, 0, first, 100), copy_of(&table, 100, second, 70)};
  };
  for (const std::int64_t rank : {0, 1}) table.enter(list_of(rank, rank << 22), 170, 0);
  const std::vector<PlacedCopy> far = list_of(std::int64_t{1} << 43, 5000);
  expect_at(table, table.enter(far, 170, 0), far);
  EXPECT_EQ(table.num_patterns(), 2U);
}

TEST(CopyTableTest, OnlyKinIsCompared) {
  CopyTable table;
  for (const std::uint64_t kin : {1U, 2U}) {
    const std::vector<PlacedCopy> list = part_of_rank(&table, 3);
    expect_at(table, table.enter(list, 170, kin), list);
  }
  EXPECT_EQ(table.num_patterns(), 2U);
}

TEST(CopyTableTest, EveryListIsWhatWasEntered) {
  EXPECT_TRUE(rc::check([] {
    CopyTable table;
    std::vector<std::vector<PlacedCopy>> lists;
    std::vector<CopyTable::Place> places;
    const auto num_lists = *rc::gen::inRange(0, 40);
    for (int i = 0; i < num_lists; ++i) {
      std::vector<PlacedCopy>& list = lists.emplace_back();
      const auto count = *rc::gen::inRange<std::int64_t>(1, 4);
      const auto rank = *rc::gen::inRange<std::int64_t>(-3, 6);
      for (std::int64_t k = 0; k < count; ++k) {
        const bool is_odd = *rc::gen::inRange(0, 10) == 0;  // now and then something that does not repeat
        list.push_back(copy_of(&table, k * rank * 8 + (is_odd ? 4 : 0), 1000 * k + rank * (k % 2) * 64, 8 * (k + 1)));
      }
      places.push_back(table.enter(list, 1, *rc::gen::inRange<std::uint64_t>(0, 2)));
    }
    for (std::size_t i = 0; i < lists.size(); ++i) {
      RC_ASSERT(table.num_copies(places[i]) == lists[i].size());
      for (std::size_t k = 0; k < lists[i].size(); ++k) {
        const PlacedCopy copy = table.copy(places[i], k);
        RC_ASSERT(copy.src == lists[i][k].src);
        RC_ASSERT(copy.dst == lists[i][k].dst);
        RC_ASSERT(copy.shape == lists[i][k].shape);
      }
    }
  }));
}

TEST(CopyTableTest, AMovedListOfASharedTableMovesAlone) {
  auto table = std::make_shared<CopyTable>();
  const std::vector<PlacedCopy> copies = part_of_rank(table.get(), 1);
  const CopyTable::Place place = table->enter(copies, 170, 0);
  CopyList moved(table, place);
  moved.shift_src(3);
  moved.shift_dst(-5);
  EXPECT_EQ(moved.op(1).src, copies[1].src + 3);
  EXPECT_EQ(moved.op(1).dst, copies[1].dst - 5);
  EXPECT_EQ(CopyList(table, place).op(1).dst, copies[1].dst);
}

}  // namespace
}  // namespace reshard::testing
