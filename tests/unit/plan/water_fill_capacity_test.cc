// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "src/base/at.h"
#include "src/plan/water_fill.h"
#include "tests/unit/plan/lemon_oracle.h"

namespace reshard {
namespace {

constexpr std::int64_t kPort = 12'500'000'000;  // bytes/s

struct Case {
  std::vector<Demand> demands;
  std::vector<std::int64_t> capacities;
  std::vector<std::int64_t> base;
};

/// Up to 12 sources of different capacities, some of 0 but never the first; each demand on up to 4 neighbours.
Case any_case() {
  Case out;
  const auto num_sources = *rc::gen::inRange(1, 13).as("sources");
  for (std::int32_t s = 0; s < num_sources; ++s) {
    const auto ports = *rc::gen::inRange(s == 0 ? 1 : 0, 9).as("ports");
    out.capacities.push_back(ports * kPort);
    out.base.push_back(*rc::gen::weightedOneOf<std::int64_t>(
        {{3, rc::gen::just(std::int64_t{0})}, {1, rc::gen::inRange<std::int64_t>(0, 5'000'000'000)}}));
  }
  const auto num_demands = *rc::gen::inRange(0, 40).as("demands");
  for (std::int32_t d = 0; d < num_demands; ++d) {
    Demand demand{*rc::gen::inRange<std::int64_t>(0, 2'000'000'000), {}};
    const auto first = *rc::gen::inRange(0, num_sources);
    const auto last = std::min(num_sources, first + *rc::gen::inRange(1, 5));
    for (std::int32_t s = first; s < last; ++s) demand.sources.push_back(s);
    const bool is_usable = std::any_of(demand.sources.begin(), demand.sources.end(),
                                       [&](std::int32_t s) { return at(out.capacities, s) > 0; });
    if (!is_usable) demand.sources.insert(demand.sources.begin(), 0);
    out.demands.push_back(demand);
  }
  return out;
}

std::vector<std::int64_t> loads(const Case& drawn, const WaterFill& fill) {
  std::vector<std::int64_t> load = drawn.base;
  for (std::size_t i = 0; i < drawn.demands.size(); ++i) {
    std::int64_t sum = 0;
    for (std::size_t s = 0; s < drawn.demands[i].sources.size(); ++s) {
      const std::int32_t source = drawn.demands[i].sources[s];
      RC_ASSERT(fill.shares[i][s] >= 0);
      RC_ASSERT((fill.shares[i][s] == 0 || at(drawn.capacities, source) > 0));
      at(load, source) += fill.shares[i][s];
      sum += fill.shares[i][s];
    }
    RC_ASSERT(sum == drawn.demands[i].bytes);
  }
  return load;
}

TEST(WaterFillCapacityTest, ReachesTheLevelThatMaxFlowProves) {
  if (!has_lemon()) GTEST_SKIP() << "LEMON was not found (liblemon-dev)";
  ASSERT_TRUE(rc::check([] {
    const Case drawn = any_case();
    const WaterFill fill = water_fill(drawn.demands, drawn.capacities, drawn.base);
    const std::vector<std::int64_t> load = loads(drawn, fill);
    const std::int64_t largest = *std::max_element(drawn.capacities.begin(), drawn.capacities.end()) / kPort;
    std::int64_t level = 0;
    for (std::size_t s = 0; s < load.size(); ++s) {
      const std::int64_t ports = drawn.capacities[s] / kPort;
      if (ports > 0) level = std::max(level, (load[s] * largest + ports - 1) / ports);
    }
    RC_ASSERT(fill.level == level);
    std::vector<LemonDemand> demands;
    for (const Demand& demand : drawn.demands) demands.push_back({demand.bytes, demand.sources});
    const std::int64_t optimum = lemon_min_level(demands, drawn.capacities, drawn.base);
    RC_ASSERT(fill.bound <= optimum);
    RC_ASSERT(fill.level >= optimum);
    // A thousandth, and what whole bytes cost: one per demand, on a source of an eighth of the largest.
    const auto slack = static_cast<std::int64_t>(8 * (drawn.demands.size() + 1));
    RC_ASSERT(fill.level - optimum <= optimum / 1000 + slack);
  }));
}

TEST(WaterFillCapacityTest, LevelsRiseInProportionToCapacity) {
  // 90 over capacities 1 : 2 that carry 0 and 30: both at 40 per unit, which is 80 of the larger.
  const WaterFill fill = water_fill({{90, {0, 1}}}, {100, 200}, {0, 30});
  EXPECT_EQ(fill.shares[0], (std::vector<std::int64_t>{40, 50}));
  EXPECT_EQ(fill.level, 80);
  EXPECT_EQ(fill.bound, 80);
}

TEST(WaterFillCapacityTest, WhatCannotBeMovedIsPartOfTheBound) {
  const WaterFill fill = water_fill({{9, {1, 2}}}, {7, 7, 7}, {50, 1, 0});
  EXPECT_EQ(fill.level, 50);
  EXPECT_EQ(fill.bound, 50);
  EXPECT_EQ(fill.shares[0], (std::vector<std::int64_t>{4, 5}));
}

TEST(WaterFillCapacityTest, ASourceWithoutCapacityIsNeverUsed) {
  const WaterFill fill = water_fill({{10, {0, 1, 2}}, {6, {0, 2}}}, {0, 5, 5}, {1'000, 0, 0});
  EXPECT_EQ(fill.shares[0], (std::vector<std::int64_t>{0, 8, 2}));
  EXPECT_EQ(fill.shares[1], (std::vector<std::int64_t>{0, 6}));
  EXPECT_EQ(fill.level, 8);
  EXPECT_EQ(fill.bound, 8);
}

TEST(WaterFillCapacityTest, LevelsAreRoundedUpToBytesOfTheLargest) {
  // 1 byte on a third of the capacity is as busy as 3 bytes on the whole of it.
  const WaterFill fill = water_fill({{1, {0}}}, {1, 3});
  EXPECT_EQ(fill.level, 3);
  EXPECT_EQ(fill.bound, 3);
}

}  // namespace
}  // namespace reshard
