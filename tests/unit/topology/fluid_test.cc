// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/fluid.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>

#include "src/base/at.h"
#include "topology/max_min.h"

namespace reshard {
namespace {

constexpr std::int64_t kGigabyte = 1'000'000'000;
constexpr double kRounding = 1e-9;

FluidResult exactly(const FluidTraffic& traffic) {
  FluidOptions options;
  options.batch = 0;
  auto result = simulate(traffic, options);
  EXPECT_TRUE(result.ok());
  return result.ok() ? result.take() : FluidResult{};
}

std::vector<FluidUse> uses_of(const FluidTraffic& traffic, std::size_t flow) {
  return {traffic.uses.begin() + traffic.first_use[flow], traffic.uses.begin() + traffic.first_use[flow + 1]};
}

std::vector<Membership> memberships_of(const FluidTraffic& traffic, std::size_t flow) {
  return {traffic.memberships.begin() + traffic.first_membership[flow],
          traffic.memberships.begin() + traffic.first_membership[flow + 1]};
}

/// Every flow uses at least one resource that has a limit.
FluidTraffic any_traffic(bool has_gates) {
  FluidTraffic traffic;
  const auto num_resources = *rc::gen::inRange(1, 10).as("resources");
  for (std::int32_t r = 0; r < num_resources; ++r) {
    traffic.bytes_per_s.push_back(*rc::gen::inRange<std::int64_t>(r == 0 ? 1 : 0, 5) * kGigabyte);
  }
  const auto num_flows = *rc::gen::inRange(0, 30).as("flows");
  for (std::int32_t f = 0; f < num_flows; ++f) {
    FluidFlow flow;
    flow.bytes = *rc::gen::inRange<std::int64_t>(0, kGigabyte);
    flow.weight = *rc::gen::inRange(1, 9);
    flow.latency_ns = *rc::gen::element<std::int64_t>(0, 0, 1'000, 50'000'000);
    std::vector<FluidUse> uses;
    bool is_limited = false;
    for (std::int32_t r = 0; r < num_resources; ++r) {
      if (*rc::gen::inRange(0, 3) != 0 && (r > 0 || is_limited)) continue;
      uses.push_back({r, *rc::gen::inRange(1, 4)});
      is_limited = is_limited || at(traffic.bytes_per_s, r) > 0;
    }
    if (!is_limited) uses.push_back({0, 1});
    // Positions in the order of the flows at every receiver, so that no circle can be.
    std::vector<Membership> memberships;
    const auto num_receivers = has_gates ? *rc::gen::inRange(0, 3) : 0;
    for (std::int32_t r = 0; r < num_receivers; ++r) memberships.push_back({r, f / 3});
    traffic.add(flow, uses, memberships);
  }
  if (has_gates) traffic.open_limit = *rc::gen::inRange(1, 4);
  return traffic;
}

TEST(FluidTest, TwoFlowsShareALinkAndOneTakesItAllWhenTheOtherEnds) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10};
  traffic.add({10, 1, 0}, {{0, 1}});
  traffic.add({30, 1, 0}, {{0, 1}});
  const FluidResult result = exactly(traffic);
  EXPECT_NEAR(result.finish_s[0], 2, kRounding);  // 5 each
  EXPECT_NEAR(result.finish_s[1], 4, kRounding);  // 10 left over, then 20 at 10
  EXPECT_NEAR(result.makespan_s, 4, kRounding);
  EXPECT_NEAR(result.bound_s, 4, kRounding);
}

TEST(FluidTest, WhatOneFlowCannotUseGoesToTheOthers) {
  // a over both, b over the first only, c over the second only: the first saturates at 5 each, c takes the other 15.
  FluidTraffic traffic;
  traffic.bytes_per_s = {10, 20, 0};
  traffic.add({10, 1, 0}, {{0, 1}, {1, 1}, {2, 1}});
  traffic.add({10, 1, 0}, {{0, 1}});
  traffic.add({30, 1, 0}, {{1, 1}});
  const FluidResult result = exactly(traffic);
  for (const double finish : result.finish_s) EXPECT_NEAR(finish, 2, kRounding);
}

TEST(FluidTest, RatesAreInProportionToWeight) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {12};
  traffic.add({9, 3, 0}, {{0, 1}});
  traffic.add({9, 1, 0}, {{0, 1}});
  const FluidResult result = exactly(traffic);
  EXPECT_NEAR(result.finish_s[0], 1, kRounding);    // at 9
  EXPECT_NEAR(result.finish_s[1], 1.5, kRounding);  // 3 at 3, then 6 at 12
}

TEST(FluidTest, ATreeThatUsesALinkThreeTimesRunsAtAThird) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {30, 100};
  traffic.add({100, 1, 0}, {{0, 3}, {1, 1}});
  EXPECT_NEAR(exactly(traffic).makespan_s, 10, kRounding);
  traffic.add({100, 1, 0}, {{0, 1}});  // 4 shares of 7.5; after 13.3 s nothing is left of either
  EXPECT_NEAR(exactly(traffic).makespan_s, 100 / 7.5, kRounding);
}

TEST(FluidTest, LatencyComesBeforeTheFirstByteAndTakesNoCapacity) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10};
  traffic.add({10, 1, 500'000'000}, {{0, 1}});
  traffic.add({10, 1, 0}, {{0, 1}});
  const FluidResult result = exactly(traffic);
  EXPECT_NEAR(result.finish_s[1], 1.5, kRounding);  // 5 alone, 5 at half
  EXPECT_NEAR(result.finish_s[0], 2.0, kRounding);
}

TEST(FluidTest, FlowsWithoutALimitOrWithoutBytesTakeTheirLatency) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {0, 10};
  traffic.add({1'000, 1, 2'000'000'000}, {{0, 1}});
  traffic.add({0, 1, 1'000'000'000}, {{1, 1}});
  const FluidResult result = exactly(traffic);
  EXPECT_NEAR(result.finish_s[0], 2, kRounding);
  EXPECT_NEAR(result.finish_s[1], 1, kRounding);
}

TEST(FluidTest, AtMostTheLimitOfGroupsIsOpenAtAReceiver) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10, 10, 10};
  // Three groups over links of their own; the second receiver holds the last one back too.
  traffic.add({10, 1, 0}, {{0, 1}}, {{0, 0}});
  traffic.add({20, 1, 0}, {{1, 1}}, {{0, 1}, {1, 0}});
  traffic.add({10, 1, 0}, {{2, 1}}, {{0, 2}, {1, 1}});
  EXPECT_NEAR(exactly(traffic).makespan_s, 2, kRounding);  // no limit
  traffic.open_limit = 2;
  const FluidResult two = exactly(traffic);
  EXPECT_NEAR(two.finish_s[1], 2, kRounding);
  EXPECT_NEAR(two.finish_s[2], 2, kRounding);  // begins at 1
  traffic.open_limit = 1;
  const FluidResult one = exactly(traffic);
  EXPECT_NEAR(one.finish_s[0], 1, kRounding);
  EXPECT_NEAR(one.finish_s[1], 3, kRounding);
  EXPECT_NEAR(one.finish_s[2], 4, kRounding);
}

TEST(FluidTest, WhatABatchOpensStartsWhenTheLastOfItEnds) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10, 10};
  traffic.open_limit = 1;
  traffic.add({20, 1, 0}, {{0, 1}}, {{0, 0}});
  traffic.add({10, 1, 0}, {{1, 1}}, {{0, 0}});
  traffic.add({0, 1, 0}, {{0, 1}}, {{0, 1}});
  FluidOptions options;
  options.batch = 10;
  const auto result = simulate(traffic, options);
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->finish_s[1], 1, kRounding);
  EXPECT_NEAR(result->finish_s[2], 2, kRounding);
}

TEST(FluidTest, GatesInACircleAreAnError) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10};
  traffic.open_limit = 1;
  traffic.add({10, 1, 0}, {{0, 1}}, {{0, 0}, {1, 1}});
  traffic.add({10, 1, 0}, {{0, 1}}, {{0, 1}, {1, 0}});
  const auto result = simulate(traffic, {});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("2 of 2 flows"), std::string::npos);
}

TEST(FluidTest, NoTrafficTakesNoTime) {
  EXPECT_EQ(exactly({}).makespan_s, 0);
}

TEST(FluidTest, TheTimelineIsWhatEachClassCarries) {
  FluidTraffic traffic;
  traffic.bytes_per_s = {10, 20};
  traffic.add({10, 1, 0}, {{0, 1}, {1, 2}});
  traffic.add({30, 1, 0}, {{0, 1}});
  FluidOptions options;
  options.batch = 0;
  options.num_buckets = 4;
  options.class_of = {0, 1};
  const auto result = simulate(traffic, options);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->timeline.size(), 2U);
  const double expected[2][4] = {{10, 10, 10, 10}, {10, 10, 0, 0}};
  for (std::size_t c = 0; c < 2; ++c) {
    for (std::size_t b = 0; b < 4; ++b) EXPECT_NEAR(result->timeline[c][b], expected[c][b], 1e-6);
  }
}

/// By definition: no resource is overloaded, and each flow has a full resource on which none has more per weight.
void check_fair(const FluidTraffic& traffic, const std::vector<std::int32_t>& flows, const MaxMin& max_min) {
  std::vector<double> load(traffic.bytes_per_s.size());
  std::vector<double> most(load.size());
  for (const std::int32_t f : flows) {
    for (const FluidUse& use : uses_of(traffic, static_cast<std::size_t>(f))) {
      at(load, use.resource) += max_min.rate(f) * use.times;
      at(most, use.resource) = std::max(at(most, use.resource), max_min.rate(f) / at(traffic.flows, f).weight);
    }
  }
  std::vector<bool> is_full(load.size());
  for (std::size_t r = 0; r < load.size(); ++r) {
    const auto capacity = static_cast<double>(traffic.bytes_per_s[r]);
    RC_ASSERT((capacity == 0 || load[r] <= capacity * (1 + kRounding)));
    is_full[r] = capacity > 0 && load[r] >= capacity * (1 - kRounding);
  }
  for (const std::int32_t f : flows) {
    bool has_bottleneck = false;
    for (const FluidUse& use : uses_of(traffic, static_cast<std::size_t>(f))) {
      const double own = max_min.rate(f) / at(traffic.flows, f).weight;
      has_bottleneck |=
          is_full[static_cast<std::size_t>(use.resource)] && own >= at(most, use.resource) * (1 - kRounding);
    }
    RC_ASSERT(has_bottleneck);
  }
}

TEST(FluidTest, RatesAreMaxMinFairByDefinitionWhileFlowsComeAndGo) {
  ASSERT_TRUE(rc::check([] {
    const FluidTraffic traffic = any_traffic(false);
    MaxMin max_min(traffic);
    std::vector<std::int32_t> flows;
    for (std::int32_t f = 0; f < static_cast<std::int32_t>(traffic.flows.size()); ++f) {
      max_min.add(f);
      flows.push_back(f);
      if (f % 3 == 2) {
        const auto gone = *rc::gen::inRange<std::size_t>(0, flows.size());
        max_min.remove(flows[gone]);
        flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(gone));
      }
      max_min.fill();
      check_fair(traffic, flows, max_min);
    }
  }));
}

/// What must hold of any way to share a network.
void check_laws(const FluidTraffic& traffic, const FluidOptions& options, const FluidResult& result) {
  RC_ASSERT(result.makespan_s >= result.bound_s);
  double last = result.bound_s;
  std::vector<double> bytes(2);
  for (std::size_t f = 0; f < traffic.flows.size(); ++f) {
    const FluidFlow& flow = traffic.flows[f];
    last = std::max(last, result.finish_s[f]);
    double alone_s = static_cast<double>(flow.latency_ns) * 1e-9;
    double slowest_s = 0;
    for (const FluidUse& use : uses_of(traffic, f)) {
      const auto capacity = static_cast<double>(at(traffic.bytes_per_s, use.resource));
      if (capacity == 0) continue;
      slowest_s = std::max(slowest_s, static_cast<double>(flow.bytes) * use.times / capacity);
      at(bytes, at(options.class_of, use.resource)) += static_cast<double>(flow.bytes) * use.times;
    }
    alone_s += slowest_s;
    double open_s = 0;
    for (const Membership& mine : memberships_of(traffic, f)) {
      for (std::size_t g = 0; traffic.open_limit > 0 && g < traffic.flows.size(); ++g) {
        for (const Membership& its : memberships_of(traffic, g)) {
          const bool is_before = its.receiver == mine.receiver && its.position <= mine.position - traffic.open_limit;
          if (is_before) open_s = std::max(open_s, result.finish_s[g]);
        }
      }
    }
    RC_ASSERT(result.finish_s[f] >= (open_s + alone_s) * (1 - kRounding));
  }
  RC_ASSERT(result.makespan_s == last);
  for (std::size_t c = 0; c < result.timeline.size(); ++c) {
    double sum = 0;
    for (const double rate : result.timeline[c]) {
      RC_ASSERT(rate >= -1);
      sum += rate * result.makespan_s / options.num_buckets;
    }
    RC_ASSERT(std::abs(sum - bytes[c]) <= 1e-6 * bytes[c] + 1);
  }
}

TEST(FluidTest, BytesAreConservedGatesKeptAndNoBoundIsBroken) {
  ASSERT_TRUE(rc::check([] {
    const FluidTraffic traffic = any_traffic(true);
    FluidOptions options;
    options.batch = *rc::gen::element(0.0, 0.01, 0.1);
    options.num_buckets = *rc::gen::inRange(1, 20);
    for (std::size_t r = 0; r < traffic.bytes_per_s.size(); ++r) {
      options.class_of.push_back(static_cast<std::int32_t>(r % 2));
    }
    const auto result = simulate(traffic, options);
    RC_ASSERT(result.ok());
    check_laws(traffic, options, *result);
  }));
}

TEST(FluidTest, BatchingCostsLittle) {
  FluidTraffic traffic;
  constexpr std::int32_t kNodes = 64;
  for (std::int32_t r = 0; r < 2 * kNodes; ++r) traffic.bytes_per_s.push_back(50 * kGigabyte);
  for (std::int32_t f = 0; f < 16 * kNodes; ++f) {
    const std::int64_t mixed = f * 2'654'435'761 % 1'000'003;
    traffic.add({1'000'000 + mixed * 1'000, 1, 0},
                {{f % kNodes, 1}, {kNodes + static_cast<std::int32_t>(mixed % kNodes), 1}});
  }
  const double exact_s = exactly(traffic).makespan_s;
  const auto batched = simulate(traffic, {});
  ASSERT_TRUE(batched.ok());
  EXPECT_GE(batched->makespan_s, exact_s * 0.99);
  EXPECT_LE(batched->makespan_s, exact_s * 1.03);
}

}  // namespace
}  // namespace reshard
