// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/rows.h"

#include <gtest/gtest.h>

#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <map>

namespace reshard::perf {
namespace {

using Addresses = std::map<std::int64_t, std::int64_t>;  // row-major index -> byte offset

reshard_block_t make_block(const std::vector<std::int64_t>& begin, const std::vector<std::int64_t>& end,
                           const std::vector<std::int64_t>& strides_bytes) {
  reshard_block_t block = {};
  std::copy(begin.begin(), begin.end(), block.begin);
  std::copy(end.begin(), end.end(), block.end);
  std::copy(strides_bytes.begin(), strides_bytes.end(), block.strides_bytes);
  block.offset_bytes = 1000;
  return block;
}

Addresses walk(const reshard_block_t& block, const std::vector<std::int64_t>& shape, std::int64_t max_count) {
  Addresses found;
  std::int64_t last = -1;
  for_each_row(row_dims(block, shape), linear_index(shape, block.begin), block.offset_bytes, max_count,
               [&](const Row& row) {
                 ASSERT_GT(row.count, 0);
                 ASSERT_LE(row.count, max_count);
                 ASSERT_GT(row.first, last) << "rows come in row-major order";
                 for (std::int64_t i = 0; i < row.count; ++i)
                   found[row.first + i] = row.offset_bytes + i * row.stride_bytes;
                 last = row.first + row.count - 1;
               });
  return found;
}

/// Every element one by one, in any number of dimensions.
Addresses enumerate(const reshard_block_t& block, const std::vector<std::int64_t>& shape) {
  Addresses expected = {{0, block.offset_bytes}};
  for (std::size_t d = 0; d < shape.size(); ++d) {
    Addresses next;
    for (const auto& [index, offset] : expected) {
      for (std::int64_t i = block.begin[d]; i < block.end[d]; ++i) {
        next[index * shape[d] + i] = offset + (i - block.begin[d]) * block.strides_bytes[d];
      }
    }
    expected = next;
  }
  return expected;
}

TEST(Rows, AScalarIsOneElement) {
  EXPECT_EQ(walk(make_block({}, {}, {}), {}, 10), (Addresses{{0, 1000}}));
}

TEST(Rows, AnEmptyBoxHasNone) {
  EXPECT_TRUE(walk(make_block({0, 2}, {3, 2}, {8, 2}), {3, 4}, 10).empty());
  EXPECT_TRUE(walk(make_block({0, 0}, {0, 4}, {8, 2}), {0, 4}, 10).empty());
}

TEST(Rows, DenseDimensionsAreOneRow) {
  EXPECT_EQ(row_dims(make_block({0, 0, 0}, {2, 3, 4}, {48, 16, 4}), std::vector<std::int64_t>{2, 3, 4}).size(), 1u);
  EXPECT_EQ(row_dims(make_block({1, 0, 0}, {2, 3, 4}, {48, 16, 4}), std::vector<std::int64_t>{2, 3, 4}).size(), 1u);
}

RC_GTEST_PROP(Rows, VisitEveryElementOfTheBoxOnceAtItsAddress, ()) {
  const auto num_dims = *rc::gen::inRange<std::size_t>(0, 6);
  std::vector<std::int64_t> shape(num_dims), begin(num_dims), end(num_dims), strides(num_dims);
  std::int64_t dense = 2;
  const bool is_dense = *rc::gen::arbitrary<bool>();
  for (std::size_t d = num_dims; d-- > 0;) {
    shape[d] = *rc::gen::inRange<std::int64_t>(1, 5);
    begin[d] = *rc::gen::inRange<std::int64_t>(0, shape[d]);
    end[d] = *rc::gen::inRange<std::int64_t>(begin[d] + 1, shape[d] + 1);
    strides[d] = is_dense ? dense : *rc::gen::inRange<std::int64_t>(1, 50);
    dense *= end[d] - begin[d];
  }
  const reshard_block_t block = make_block(begin, end, strides);
  RC_ASSERT(walk(block, shape, *rc::gen::inRange<std::int64_t>(1, 6)) == enumerate(block, shape));
}

TEST(Rows, ScatterUndoesGather) {
  const std::vector<std::byte> memory = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                         std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8}};
  const Row row{0, 2, 1, 4};  // two elements of two bytes, four bytes apart, from byte 1
  std::vector<std::byte> dense(4);
  gather_row(memory.data(), 2, row, dense.data());
  EXPECT_EQ(dense, (std::vector<std::byte>{std::byte{2}, std::byte{3}, std::byte{6}, std::byte{7}}));
  std::vector<std::byte> back(8);
  scatter_row(dense.data(), 2, row, back.data());
  EXPECT_EQ(back, (std::vector<std::byte>{std::byte{0}, std::byte{2}, std::byte{3}, std::byte{0}, std::byte{0},
                                          std::byte{6}, std::byte{7}, std::byte{0}}));
}

}  // namespace
}  // namespace reshard::perf
