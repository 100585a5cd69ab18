// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/box.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "tests/unit/layout/oracle.h"

namespace reshard {
namespace {

using oracle::Indices;

Box random_box_in(const Box& outer) {
  Box box;
  box.num_dims = outer.num_dims;
  for (int d = 0; d < box.num_dims; ++d) {
    box.begin[d] = random(outer.begin[d], outer.end[d]);
    box.end[d] = random(box.begin[d], outer.end[d]);
  }
  return box;
}

/// The indices of a box, in row-major order.
std::vector<Indices> indices_of(const Box& box) {
  Indices extents;
  for (int d = 0; d < box.num_dims; ++d) extents.push_back(box.end[d] - box.begin[d]);
  std::vector<Indices> all;
  oracle::for_each_index(extents, [&](Indices index) {
    for (int d = 0; d < box.num_dims; ++d) at(index, d) += box.begin[d];
    all.push_back(std::move(index));
  });
  return all;
}

TEST(BoxTest, ScalarIsOneElement) {
  const Box scalar = whole_box({});
  EXPECT_EQ(scalar.num_elements(), 1);
  EXPECT_FALSE(scalar.empty());
  EXPECT_EQ(to_string(scalar), "[]");
}

TEST(BoxTest, ZeroExtentIsEmpty) {
  EXPECT_TRUE(whole_box({4, 0, 3}).empty());
  EXPECT_EQ(whole_box({4, 0, 3}).num_elements(), 0);
}

TEST(BoxTest, PrintsHalfOpenRangesInOrderOfDims) {
  Box box = whole_box({4, 16});
  box.begin[1] = 8;
  EXPECT_EQ(to_string(box), "[0:4, 8:16]");
}

TEST(BoxTest, CountsBeyond32Bits) {
  EXPECT_EQ(whole_box({std::int64_t{1} << 31, 3, std::int64_t{1} << 20}).num_elements(), (std::int64_t{3} << 51));
}

RC_GTEST_PROP(BoxTest, IntersectionHoldsExactlyTheCommonIndices, ()) {
  const Box whole = whole_box(oracle::random_shape(3, 6));
  const Box a = random_box_in(whole);
  const Box b = random_box_in(whole);
  const Box common = intersect(a, b);
  std::int64_t count = 0;
  for (const Indices& index : indices_of(a)) count += oracle::contains(b, index) ? 1 : 0;
  RC_ASSERT(common.num_elements() == count);
  RC_ASSERT(common.empty() == (count == 0));
  if (count == 0) return;
  for (const Indices& index : indices_of(common)) RC_ASSERT((oracle::contains(a, index) && oracle::contains(b, index)));
}

RC_GTEST_PROP(BoxTest, PiecesOfARangeEnumerateItInOrder, ()) {
  const Box box = random_box_in(whole_box(oracle::random_shape(4, 5)));
  const std::vector<Indices> all = indices_of(box);
  const std::int64_t begin = random(0, static_cast<std::int64_t>(all.size()));
  const std::int64_t end = random(begin, static_cast<std::int64_t>(all.size()));
  std::vector<Indices> visited;
  int num_pieces = 0;
  for_each_box_of_range(box, begin, end, [&](const Box& piece, std::int64_t flat) {
    ++num_pieces;
    RC_ASSERT(flat == begin + static_cast<std::int64_t>(visited.size()));
    RC_ASSERT(!piece.empty());
    for (Indices& index : indices_of(piece)) visited.push_back(std::move(index));
  });
  // Row-major order of the pieces, one after the other, is the range itself: so each is contiguous in the box.
  RC_ASSERT(visited == std::vector<Indices>(all.begin() + begin, all.begin() + end));
  RC_ASSERT(num_pieces <= std::max(1, 2 * box.num_dims - 1));
}

TEST(BoxTest, RangeOfFsdp1ShardCutsARow) {
  // Elements [0, 6) of a 3 x 4 parameter: row 0, and columns 0 and 1 of row 1.
  std::vector<std::string> pieces;
  for_each_box_of_range(whole_box({3, 4}), 0, 6,
                        [&](const Box& piece, std::int64_t) { pieces.push_back(to_string(piece)); });
  EXPECT_EQ(pieces, (std::vector<std::string>{"[0:1, 0:4]", "[1:2, 0:2]"}));
}

TEST(BoxTest, RangeBeyond32BitsIsFewPieces) {
  const std::int64_t rows = std::int64_t{1} << 33;
  std::int64_t elements = 0;
  int num_pieces = 0;
  for_each_box_of_range(whole_box({rows, 5, 7}), 3, rows * 35 - 4, [&](const Box& piece, std::int64_t) {
    elements += piece.num_elements();
    ++num_pieces;
  });
  EXPECT_EQ(elements, rows * 35 - 7);
  EXPECT_EQ(num_pieces, 5);
}

RC_GTEST_PROP(BoxTest, ComplementCoversTheRestOnce, ()) {
  const Box outer = random_box_in(whole_box(oracle::random_shape(3, 6)));
  std::vector<Box> inner;
  for (std::int64_t i = random(0, 4); i > 0; --i) inner.push_back(random_box_in(outer));
  const std::vector<Box> rest = complement(outer, inner);
  const auto holding = [](const std::vector<Box>& boxes, const Indices& index) {
    return std::count_if(boxes.begin(), boxes.end(), [&](const Box& box) { return oracle::contains(box, index); });
  };
  std::int64_t outside = 0;
  for (const Indices& index : indices_of(outer)) {
    const bool is_inner = holding(inner, index) > 0;
    RC_ASSERT(holding(rest, index) == (is_inner ? 0 : 1));
    outside += is_inner ? 0 : 1;
  }
  std::int64_t total = 0;
  for (const Box& box : rest) total += box.num_elements();
  RC_ASSERT(total == outside);
}

TEST(BoxTest, ComplementOfAScalar) {
  EXPECT_EQ(complement(whole_box({}), {}).size(), 1U);
  EXPECT_TRUE(complement(whole_box({}), {whole_box({})}).empty());
}

TEST(BoxTest, NumElementsRefusesWhatDoesNotFit) {
  EXPECT_EQ(*checked_num_elements({}), 1);
  EXPECT_EQ(*checked_num_elements({5, 0, 7}), 0);
  EXPECT_EQ(*checked_num_elements({std::int64_t{1} << 31, std::int64_t{1} << 31}), std::int64_t{1} << 62);
  EXPECT_EQ(checked_num_elements({3, -1}).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_NE(checked_num_elements({3, -1}).status().message().find("-1"), std::string::npos);
  EXPECT_FALSE(checked_num_elements({std::int64_t{1} << 31, std::int64_t{1} << 31, 2}).ok());
  EXPECT_FALSE(checked_num_elements({INT64_MAX, INT64_MAX, INT64_MAX}).ok());
}

}  // namespace
}  // namespace reshard
