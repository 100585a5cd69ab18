// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/report/assignment.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "src/base/at.h"
#include "tests/unit/plan/lemon_oracle.h"

namespace reshard {
namespace {

constexpr std::int64_t kLargest = std::int64_t{1} << 50;

std::int64_t total(const std::vector<std::int64_t>& cost, const std::vector<std::int32_t>& columns) {
  std::int64_t sum = 0;
  const auto n = columns.size();
  for (std::size_t row = 0; row < n; ++row) sum += at(cost, static_cast<std::int64_t>(row * n) + columns[row]);
  return sum;
}

std::int64_t least_by_trying_all(const std::vector<std::int64_t>& cost, std::int32_t n) {
  std::vector<std::int32_t> columns(static_cast<std::size_t>(n));
  std::iota(columns.begin(), columns.end(), 0);
  std::int64_t best = total(cost, columns);
  while (std::next_permutation(columns.begin(), columns.end())) best = std::min(best, total(cost, columns));
  return best;
}

bool is_permutation_of_columns(std::vector<std::int32_t> columns) {
  std::sort(columns.begin(), columns.end());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] != static_cast<std::int32_t>(i)) return false;
  }
  return true;
}

TEST(AssignmentTest, IsTheLeastOfAllPermutations) {
  ASSERT_TRUE(rc::check([] {
    const auto n = *rc::gen::inRange(0, 8);
    const auto range = *rc::gen::element<std::int64_t>(2, 10, 1'000'000, kLargest);  // few values: many ties
    std::vector<std::int64_t> cost(static_cast<std::size_t>(n * n));
    std::mt19937_64 random(*rc::gen::arbitrary<std::uint64_t>());
    std::uniform_int_distribution<std::int64_t> any(-range, range);
    for (std::int64_t& value : cost) value = any(random);
    const auto columns = assign(cost, n);
    RC_ASSERT(columns.size() == static_cast<std::size_t>(n));
    RC_ASSERT(is_permutation_of_columns(columns));
    RC_ASSERT(total(cost, columns) == least_by_trying_all(cost, n));
  }));
}

TEST(AssignmentTest, IsTheLeastByNetworkSimplex) {
  if (!has_lemon()) GTEST_SKIP() << "LEMON was not found (liblemon-dev)";
  constexpr std::int32_t kSize = 60;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<std::int64_t> any(-1'000'000'000, seed % 3 == 0 ? -999'999'990 : 1'000'000'000);
    std::vector<std::int64_t> cost(kSize * kSize);
    for (std::int64_t& value : cost) value = any(random);
    const auto columns = assign(cost, kSize);
    EXPECT_TRUE(is_permutation_of_columns(columns));
    EXPECT_EQ(total(cost, columns), lemon_min_assignment(cost, kSize)) << "seed " << seed;
  }
}

TEST(AssignmentTest, ProductsOfWeightsPairLargestWithSmallest) {
  // By the rearrangement inequality; the case in which augmenting paths are longest.
  constexpr std::int32_t kSize = 300;
  std::vector<std::int64_t> cost;
  std::vector<std::int32_t> expected;
  for (std::int32_t row = 0; row < kSize; ++row) {
    for (std::int32_t column = 0; column < kSize; ++column) cost.push_back((row + 1) * (column + 1));
    expected.push_back(kSize - 1 - row);
  }
  EXPECT_EQ(assign(cost, kSize), expected);
}

}  // namespace
}  // namespace reshard
