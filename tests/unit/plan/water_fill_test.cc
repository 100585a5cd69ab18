// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/water_fill.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "src/base/at.h"

namespace reshard {
namespace {

std::vector<std::int64_t> equal_capacities(std::int32_t num_ranks) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_ranks), 1);
}

/// The min-max optimum by its dual: over every set of sources, what is confined to it divided by its size.
double optimum(const std::vector<Demand>& demands, std::int32_t num_ranks) {
  double best = 0;
  for (std::uint32_t set = 1; set < (1U << num_ranks); ++set) {
    std::int64_t confined = 0;
    for (const Demand& demand : demands) {
      const bool inside = std::all_of(demand.sources.begin(), demand.sources.end(),
                                      [&](std::int32_t source) { return (set >> source & 1U) != 0; });
      if (inside) confined += demand.bytes;
    }
    best = std::max(best, static_cast<double>(confined) / __builtin_popcount(set));
  }
  return best;
}

rc::Gen<Demand> any_demand(std::int32_t num_ranks) {
  return rc::gen::map(rc::gen::pair(rc::gen::inRange<std::int64_t>(0, 1'000'000'000),
                                    rc::gen::inRange<std::uint32_t>(1, 1U << num_ranks)),
                      [=](const std::pair<std::int64_t, std::uint32_t>& drawn) {
                        Demand demand{drawn.first, {}};
                        for (std::int32_t r = 0; r < num_ranks; ++r) {
                          if ((drawn.second >> r & 1U) != 0) demand.sources.push_back(r);
                        }
                        return demand;
                      });
}

RC_GTEST_PROP(WaterFillTest, ReachesTheMinMaxOptimumAndProvesIt, ()) {
  constexpr std::int32_t kRanks = 7;
  const auto demands = *rc::gen::container<std::vector<Demand>>(any_demand(kRanks));
  const WaterFill fill = water_fill(demands, equal_capacities(kRanks));
  std::vector<std::int64_t> load(kRanks);
  for (std::size_t i = 0; i < demands.size(); ++i) {
    std::int64_t sum = 0;
    for (std::size_t s = 0; s < demands[i].sources.size(); ++s) {
      RC_ASSERT(fill.shares[i][s] >= 0);
      at(load, demands[i].sources[s]) += fill.shares[i][s];
      sum += fill.shares[i][s];
    }
    RC_ASSERT(sum == demands[i].bytes);
  }
  const double best = optimum(demands, kRanks);
  RC_ASSERT(fill.level == *std::max_element(load.begin(), load.end()));
  RC_ASSERT(static_cast<double>(fill.bound) <= best + 1);
  RC_ASSERT(static_cast<double>(fill.level) >= best);
  // The promise: at most a thousandth of the level above the optimum; and a byte per demand for whole numbers.
  RC_ASSERT(static_cast<double>(fill.level) * 0.999 <= best + static_cast<double>(demands.size()) + 1);
}

TEST(WaterFillTest, FillsTheLowestFirst) {
  // 10 confined to source 0; 20 over both: 5 more on 0, 15 on 1.
  const WaterFill fill = water_fill({{10, {0}}, {20, {0, 1}}}, equal_capacities(2));
  EXPECT_EQ(fill.level, 15);
  EXPECT_EQ(fill.bound, 15);
  EXPECT_EQ(fill.shares[1], (std::vector<std::int64_t>{5, 15}));
}

TEST(WaterFillTest, ADemandThatCannotLevelLeavesTheRest) {
  const WaterFill fill = water_fill({{100, {0}}, {20, {0, 1, 2}}}, equal_capacities(3));
  EXPECT_EQ(fill.level, 100);
  EXPECT_EQ(fill.bound, 100);
  EXPECT_EQ(fill.shares[1], (std::vector<std::int64_t>{0, 10, 10}));
}

TEST(WaterFillTest, NothingToSendIsLevelZero) {
  const WaterFill fill = water_fill({}, equal_capacities(4));
  EXPECT_EQ(fill.level, 0);
  EXPECT_EQ(fill.bound, 0);
}

}  // namespace
}  // namespace reshard
