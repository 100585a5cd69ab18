// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/former_trees.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/plan/routing/prepared.h"

namespace reshard::routing {
namespace {

using testing::kMega;
using testing::Placed;

/// Domains of two ranks each; the second receives from several others at once.
Machine four_domains() {
  return testing::hand_machine({{0}, {0}, {1, 0, 100 * kMega}, {1}, {2}, {2}, {3}, {3}});
}

Plan planned(const Machine& machine, const std::vector<Placed>& tensors) {
  const testing::Sides sides = testing::sides_of(machine.num_ranks(), tensors);
  Result<Plan> plan = create_plan(sides.src, sides.dst, testing::options_for(machine));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

Demand given(const Plan& old, const Plan& now, const Range& range) {
  const Fabric fabric(*now.options.machine);
  Demand demand{range, {}};
  FormerTrees(old, now, fabric).give(&demand);
  return demand;
}

/// Receivers by tree, and whether its pieces follow each other from the range's begin to its end.
void expect_all(const Demand& demand) {
  std::int64_t position = demand.range.begin;
  for (const Former& former : demand.former) {
    EXPECT_EQ(former.range.bundle, demand.range.bundle);
    EXPECT_EQ(former.range.begin, position);
    EXPECT_LT(former.range.begin, former.range.end);
    position = former.range.end;
  }
  EXPECT_EQ(position, demand.range.end);
}

std::set<std::int32_t> served_by(const Tree& tree) {
  std::set<std::int32_t> out;
  for (const Tree::Arc& arc : tree.arcs) {
    if (!arc.to_staging) out.insert(arc.dst);
  }
  return out;
}

/// The tree that a byte of a bundle had in a plan.
Tree tree_at(const Plan& plan, std::int32_t bundle, std::int64_t byte) {
  Tree tree;
  for (const Route& route : plan.routes) {
    for (const Range& range : plan.ranges_of(route)) {
      if (range.bundle != bundle || byte < range.begin || byte >= range.end) continue;
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop hop = plan.begin_hops(route)[h];
        tree.arcs.push_back({hop.src, hop.dst, hop.parent, hop.to_staging});
      }
    }
  }
  return tree;
}

TEST(FormerTreesTest, AreThoseOfTheOldPlanWhereNothingHasChanged) {
  const Machine machine = four_domains();
  const std::vector<Placed> tensors{{4000, 0, {0, 1}, {2, 3, 4, 5, 6, 7}}};
  const Plan old = planned(machine, tensors);
  const Plan now = testing::prepared(machine, tensors);
  const Demand demand = given(old, now, {0, 0, 4 * kMega});
  expect_all(demand);
  for (const Former& former : demand.former) EXPECT_EQ(*former.part, tree_at(old, 0, former.range.begin));
  const Demand half = given(old, now, {0, kMega, 3 * kMega});  // of a block
  expect_all(half);
}

TEST(FormerTreesTest, ServeWhoStaysAndKnowNobodyWhoIsLost) {
  const Machine machine = four_domains();
  const Plan old = planned(machine, {{4000, 0, {0, 1}, {2, 3, 4, 5, 6, 7}}});
  const Plan now = testing::prepared(machine, {{4000, 0, {0, 1}, {2, 3, 6, 7}}});
  const Demand demand = given(old, now, {0, 0, 4 * kMega});
  expect_all(demand);
  for (const Former& former : demand.former) {
    EXPECT_EQ(served_by(*former.part), (std::set<std::int32_t>{2, 3, 6, 7}));
    for (const Tree::Arc& arc : former.part->arcs) EXPECT_TRUE(arc.src != 4 && arc.src != 5);
  }
}

TEST(FormerTreesTest, AHolderThatIsLostIsReplacedByOneThatIsNot) {
  const Machine machine = four_domains();
  const Plan old = planned(machine, {{4000, 0, {0, 1}, {4, 6}}});
  const Plan now = testing::prepared(machine, {{4000, 0, {1}, {4, 6}}});
  const Demand demand = given(old, now, {0, 0, 4 * kMega});
  expect_all(demand);
  for (const Former& former : demand.former) {
    EXPECT_EQ(served_by(*former.part), (std::set<std::int32_t>{4, 6}));
    for (const Tree::Arc& arc : former.part->arcs) EXPECT_NE(arc.src, 0);
  }
}

TEST(FormerTreesTest, WhoIsNewIsNotInThem) {
  const Machine machine = four_domains();
  const Plan old = planned(machine, {{4000, 0, {0}, {2}}});
  const Plan now = testing::prepared(machine, {{4000, 0, {0}, {2, 6}}});
  const Demand demand = given(old, now, {0, 0, 4 * kMega});
  expect_all(demand);
  for (const Former& former : demand.former) EXPECT_EQ(served_by(*former.part), (std::set<std::int32_t>{2}));
}

/// Rank 0 sends by the port of rank 1, which is faster, and has a part in the plans only as long as it keeps a tensor.
TEST(FormerTreesTest, WhoOnlyPassesBytesOnDoesSoAsLongAsItIsThere) {
  const Machine machine = testing::hand_machine({{0, 0, kMega}, {0, 1, 9 * kMega}, {1, 0, 100 * kMega}});
  const Placed moved{4000, 0, {0}, {2}};
  const Placed kept{1000, 0, {1}, {1}};
  const Plan old = planned(machine, {moved, kept});
  for (const bool is_there : {true, false}) {
    SCOPED_TRACE(is_there);
    const Plan now = testing::prepared(machine, is_there ? std::vector{moved, kept} : std::vector{moved});
    const std::int32_t bundle = testing::bundle_of(now, {0}, {2});
    const Demand demand = given(old, now, {bundle, 0, 4 * kMega});
    expect_all(demand);
    std::int64_t num_passed_on = 0;
    for (const Former& former : demand.former) {
      if (former.part->arcs.size() > 1) num_passed_on += former.range.end - former.range.begin;
    }
    EXPECT_EQ(num_passed_on > 2 * kMega, is_there);
    EXPECT_EQ(num_passed_on == 0, !is_there);
  }
}

/// The old plan left most of the bytes where they were, so it has no trees for them.
TEST(FormerTreesTest, AreNotAskedWhereLittleIsKnown) {
  const Machine machine = four_domains();
  for (const std::int64_t known : {3000, 1000}) {
    SCOPED_TRACE(known);
    const Plan old = planned(machine, {{4000 - known, 0, {0, 4}, {0}}, {known, 0, {0, 4}, {2}}});
    const Plan now = testing::prepared(machine, {{4000 - known, 0, {0, 4}, {2}}, {known, 0, {0, 4}, {2}}});
    EXPECT_GE(old.routes.size(), 2U);  // from both holders
    const Demand demand = given(old, now, {0, 0, 4 * kMega});
    std::int64_t sum = 0;
    for (const Former& former : demand.former) sum += former.range.end - former.range.begin;
    EXPECT_EQ(sum, known == 3000 ? 3 * kMega : 0);
    for (const Former& former : demand.former) EXPECT_GE(former.range.begin, kMega);  // behind what is new
  }
}

}  // namespace
}  // namespace reshard::routing
