// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/emit.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/optimum/random.h"
#include "tests/unit/plan/routing/prepared.h"

namespace reshard::routing {
namespace {

using testing::kMega;
using testing::prepared;

TreePtr tree_of(const std::vector<Tree::Arc>& arcs) {
  return std::make_shared<const Tree>(Tree{arcs});
}

/// Domains {0, 1}, {2, 3} and {4}.
Machine three_domains() {
  return testing::hand_machine({{0}, {0}, {1}, {1}, {2}});
}

/// Routes of 3 MB from rank 0 that all go along one tree.
Plan emitted(const std::vector<std::int32_t>& wanted, const std::vector<Tree::Arc>& arcs) {
  const Machine machine = three_domains();
  Plan plan = prepared(machine, {{3000, 0, {0}, wanted}});
  const Fabric fabric(machine);
  EXPECT_EQ(emit_routes(fabric, {{{0, 0, 3 * kMega}, {{tree_of(arcs), 3 * kMega}}}}, &plan), 0);
  return plan;
}

struct ExpectedHop {
  std::int32_t src, dst, parent, delay, step;
  bool to_staging;
};

void expect_hops(const Plan& plan, const std::vector<ExpectedHop>& expected) {
  ASSERT_EQ(plan.routes.size(), 1U);
  const Route route = at(plan.routes, 0);
  EXPECT_EQ(route.size_bytes, 3 * kMega);
  ASSERT_EQ(static_cast<std::size_t>(route.num_hops), expected.size());
  for (std::size_t h = 0; h < expected.size(); ++h) {
    SCOPED_TRACE(h);
    const Hop hop = plan.begin_hops(route)[h];
    EXPECT_EQ(hop.src, expected[h].src);
    EXPECT_EQ(hop.dst, expected[h].dst);
    EXPECT_EQ(hop.parent, expected[h].parent);
    EXPECT_EQ(hop.delay, expected[h].delay);
    EXPECT_EQ(hop.step, expected[h].step);
    EXPECT_EQ(hop.to_staging, expected[h].to_staging);
  }
}

TEST(EmitTest, EachCrossingBehindTheFirstIsARoundLater) {
  const Plan plan = emitted({1, 2, 3, 4}, {{0, 1, -1}, {0, 2, -1}, {2, 3, 1}, {3, 4, 2}});
  expect_hops(plan, {{0, 1, -1, 0, 0, false}, {0, 2, -1, 0, 0, false}, {2, 3, 1, 0, 1, false}, {3, 4, 2, 1, 2, false}});
}

TEST(EmitTest, AHopIntoStagingGoesWithTheCrossingBehindIt) {
  const Plan plan = emitted({2, 4}, {{0, 1, -1, true}, {1, 2, 0}, {2, 3, 1, true}, {3, 4, 2}});
  expect_hops(plan, {{0, 1, -1, 0, 0, true}, {1, 2, 0, 0, 1, false}, {2, 3, 1, 1, 2, true}, {3, 4, 2, 1, 3, false}});
}

TEST(EmitTest, WhatIsStagedGoesOnInTheRoundInWhichItCame) {
  const Plan plan = emitted({4}, {{0, 2, -1, true}, {2, 3, 0, true}, {3, 4, 1}});
  expect_hops(plan, {{0, 2, -1, 0, 0, true}, {2, 3, 0, 0, 1, true}, {3, 4, 1, 0, 2, false}});
}

TEST(EmitTest, IdleRelaysAreLeftOut) {
  const Plan plan = emitted({2, 4}, {{0, 1, -1, true}, {0, 2, -1}, {2, 3, 1, true}, {2, 4, 1}});
  expect_hops(plan, {{0, 2, -1, 0, 0, false}, {2, 4, 0, 1, 1, false}});
}

TEST(EmitTest, TwinsMakeTheHopsOfASectionInTheSameRoute) {
  Plan plan = prepared(testing::hand_machine({{0}, {1}, {1}, {2}, {3}, {3}}), {{3000, 0, {0, 3}, {1, 2, 4, 5}}});
  const Fabric of_section(testing::hand_machine({{0}, {1}, {1}}));
  const TreePtr tree = tree_of({{0, 1, -1}, {1, 2, 0}});
  emit_routes_of_sections(of_section, {{{0, 0, 3 * kMega}, {{tree, 3 * kMega}}}}, {{0, 1, 2}, {3, 5, 4}}, &plan);
  expect_hops(plan, {{0, 1, -1, 0, 0, false}, {1, 2, 0, 0, 1, false}, {3, 5, -1, 0, 0, false}, {5, 4, 2, 0, 1, false}});
}

TEST(EmitTest, DemandsOfOneTreeShareARoute) {
  const Machine machine = three_domains();
  Plan plan = prepared(machine, {{1000, 0, {0}, {2}}, {1000, 0, {0, 1}, {2}}});
  const Fabric fabric(machine);
  // Trees that are equal but for an idle relay.
  const TreePtr tree = tree_of({{0, 2, -1}});
  const TreePtr same = tree_of({{0, 1, -1, true}, {0, 2, -1}});
  emit_routes(fabric, {{{0, 0, kMega}, {{tree, kMega}}}, {{1, 0, kMega}, {{same, kMega}}}}, &plan);
  ASSERT_EQ(plan.routes.size(), 1U);
  EXPECT_EQ(at(plan.routes, 0).size_bytes, 2 * kMega);
  EXPECT_EQ(plan.ranges_of(at(plan.routes, 0)).size(), 2U);
}

/// Bytes by tree: the first hop names it here.
std::map<std::int32_t, std::vector<Range>> ranges_by_sender(const Plan& plan) {
  std::map<std::int32_t, std::vector<Range>> out;
  for (const Route& route : plan.routes) {
    std::vector<Range>& ranges = out[plan.begin_hops(route)->src];
    for (const Range& range : plan.ranges_of(route)) ranges.push_back(range);
  }
  return out;
}

TEST(EmitTest, EveryByteGoesAlongOneTreeAndEachTreeCarriesItsShare) {
  const Machine machine = three_domains();
  const Fabric fabric(machine);
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    optimum::Random random(seed);
    std::vector<testing::Placed> tensors;
    for (int t = random.between(1, 5); t > 0; --t) tensors.push_back({random.between(1, 3000), 0, {0, 1, 2, 3}, {4}});
    Plan plan = prepared(machine, tensors);
    const std::int64_t size = plan.bundles.front().size_bytes;
    const std::int64_t begin = random.between(0, 2) * size / 4;  // not always all of the bundle
    Demand demand{{0, begin, size}, {}};
    std::map<std::int32_t, std::int64_t> wanted;
    std::int64_t left = size - begin;
    for (std::int32_t sender = 0; sender < 4; ++sender) {
      const std::int64_t bytes = sender == 3 ? left : random.between(1, 9) * left / 10;
      if (bytes == 0) continue;
      demand.shares.push_back({tree_of({{sender, 4, -1}}), bytes});
      wanted[sender] = bytes;
      left -= bytes;
    }
    std::int64_t tolerance = (size - begin) / 200;
    for (const auto& [sender, bytes] : wanted) tolerance = std::min(tolerance, bytes / 64);
    emit_routes(fabric, {demand}, &plan);
    std::vector<Range> all;
    for (const auto& [sender, ranges] : ranges_by_sender(plan)) {
      std::int64_t sum = 0;
      for (const Range& range : ranges) sum += range.end - range.begin;
      EXPECT_LE(std::abs(sum - wanted[sender]), 2 * tolerance);  // it has two ends
      all.insert(all.end(), ranges.begin(), ranges.end());
    }
    std::sort(all.begin(), all.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::int64_t position = begin;
    for (const Range& range : all) {
      EXPECT_EQ(range.bundle, 0);
      EXPECT_EQ(range.begin, position);
      EXPECT_LT(range.begin, range.end);
      position = range.end;
    }
    EXPECT_EQ(position, size);
  }
}

/// Of 4 MB rank 1 had sent the second and third one, and rank 2 the fourth.
Demand with_former(std::int64_t bytes_of_1, std::int64_t bytes_of_0) {
  const TreePtr by_1 = tree_of({{1, 4, -1}});
  Demand demand{{0, 0, 4 * kMega}, {{by_1, bytes_of_1}, {tree_of({{0, 4, -1}}), bytes_of_0}}};
  demand.former = {{{0, kMega, 3 * kMega}, by_1}, {{0, 3 * kMega, 4 * kMega}, tree_of({{2, 4, -1}})}};
  return demand;
}

TEST(EmitTest, BytesStayWithTheTreeThatTheyHad) {
  const Machine machine = three_domains();
  const Fabric fabric(machine);
  for (const std::int64_t of_1 : {kMega, 2 * kMega, 3 * kMega}) {
    SCOPED_TRACE(of_1);
    Plan plan = prepared(machine, {{4000, 0, {0, 1, 2}, {4}}});
    const std::int64_t kept = emit_routes(fabric, {with_former(of_1, 4 * kMega - of_1)}, &plan);
    EXPECT_EQ(kept, std::min(of_1, 2 * kMega));
    std::int64_t still = 0;  // of those that rank 1 had
    std::int64_t sum = 0;
    const auto by_sender = ranges_by_sender(plan);
    for (const Range& range : by_sender.at(1)) {
      still += std::max<std::int64_t>(0, std::min(range.end, 3 * kMega) - std::max(range.begin, kMega));
      sum += range.end - range.begin;
    }
    EXPECT_EQ(still, kept);
    EXPECT_EQ(sum, of_1);
  }
}

}  // namespace
}  // namespace reshard::routing
