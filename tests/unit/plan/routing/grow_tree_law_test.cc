// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every tree is that grows on a random small machine, whatever prices are.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "src/plan/routing/grow_tree.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/routing/random_fabric.h"
#include "tests/unit/plan/routing/tree_checks.h"

namespace reshard::routing {
namespace {

using optimum::Random;
using testing::AskedFor;
using testing::fault_of;
using testing::Need;
using testing::num_idle;
using testing::RandomFabric;

std::int64_t draw_carried(Random& random) {
  return random.one_in(3) ? 0 : random.between(1, 1'000'000) * std::int64_t{1'000'000};
}

/// Whether bytes can come to all that lack them, over any ranks.
bool is_reached(const Machine& machine, const Need& need) {
  std::vector<std::int32_t> reached = need.sources;
  for (std::size_t i = 0; i < reached.size(); ++i) {
    for (std::int32_t rank = 0; rank < machine.num_ranks(); ++rank) {
      if (testing::contains(reached, rank) || !testing::is_joined(machine, reached[i], rank)) continue;
      reached.push_back(rank);
    }
  }
  return std::all_of(need.lacking.begin(), need.lacking.end(),
                     [&](std::int32_t rank) { return testing::contains(reached, rank); });
}

RC_GTEST_PROP(GrowTreeTest, BringsTheBytesOnceToAllThatLackThemOrSaysWhomItCannotReach, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const RandomFabric given(random);
  TreeGrower grower(given.fabric, given.uses, given.prices);
  for (int i = 0; i < 3; ++i) {  // nothing stays of the tree before
    const Need need = testing::draw_need(random, given.machine.num_ranks());
    const AskedFor asked(given.machine, need);
    grower.settle(given.prices);
    grower.set_relay_price(random.of({std::uint64_t{0}, Prices::kFullPrice / 16, 2 * Prices::kFullPrice}));
    const auto salt = static_cast<std::uint32_t>(random.between(0, 1000));
    const TreePtr tree = grower.grow(asked.audience, draw_carried(random), salt);
    RC_ASSERT((tree != nullptr) == is_reached(given.machine, need));
    if (tree == nullptr) {
      const DomainId domain = grower.unreached();
      const std::vector<std::int32_t>& ranks = given.machine.domains[domain].ranks;
      RC_ASSERT(
          std::any_of(ranks.begin(), ranks.end(), [&](auto rank) { return testing::contains(need.lacking, rank); }));
      continue;
    }
    RC_ASSERT(fault_of(given.machine, *tree, need) == "");
    RC_CLASSIFY(std::any_of(tree->arcs.begin(), tree->arcs.end(), [](const auto& arc) { return arc.to_staging; }),
                "staging");
    RC_CLASSIFY(num_idle(*tree) > 0, "idle relays");
    const Tree tidy = without_idle_relays(*tree);
    RC_ASSERT(fault_of(given.machine, tidy, need) == "");
    RC_ASSERT(num_idle(tidy) == 0U);
  }
}

/// Grows for a part of those who lack the bytes, and goes on for the rest.
RC_GTEST_PROP(GrowTreeTest, GoesOnFromAPartAndLeavesItAsItIs, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const RandomFabric given(random);
  TreeGrower grower(given.fabric, given.uses, given.prices);
  grower.settle(given.prices);
  const Need need = testing::draw_need(random, given.machine.num_ranks());
  Need fewer{need.sources, {}, {}};
  for (const std::int32_t rank : need.lacking) {
    if (random.one_in(2)) fewer.destinations.push_back(rank), fewer.lacking.push_back(rank);
  }
  const TreePtr part = grower.grow(AskedFor(given.machine, fewer).audience, 0, 0);
  if (part == nullptr) return;
  Tree known = without_idle_relays(*part);
  for (Tree::Arc& arc : known.arcs) arc.to_staging = !testing::contains(need.lacking, arc.dst);  // who relayed wants it
  const AskedFor asked(given.machine, need);
  const TreePtr tree = grower.grow_on(asked.audience, known, draw_carried(random), 7);
  RC_ASSERT((tree != nullptr) == is_reached(given.machine, need));
  if (tree == nullptr) return;
  RC_CLASSIFY(tree->arcs.size() > known.arcs.size(), "goes on");
  RC_ASSERT(fault_of(given.machine, *tree, need) == "");
  RC_ASSERT(tree->arcs.size() >= known.arcs.size());
  RC_ASSERT(std::equal(known.arcs.begin(), known.arcs.end(), tree->arcs.begin()));
}

/// Nobody in the second host has or wants the bytes, but it alone joins the two rails.
TEST(GrowTreeTest, PassesAHostThatJoinsIsolatedRails) {
  Machine machine = testing::hand_machine({{0, 0}, {1, 0}, {1, 1}, {2, 1}});
  machine.rail_isolated = true;
  const Fabric fabric(machine);
  const Uses uses(fabric);
  Prices prices(fabric);
  prices.set_time({1, 1});
  const Need need{{0}, {3}, {3}};
  const AskedFor asked(machine, need);
  TreeGrower grower(fabric, uses, prices);
  grower.settle(prices);
  for (const std::int64_t carried_bytes : {0, 1'000'000}) {
    const TreePtr tree = grower.grow(asked.audience, carried_bytes, 0);
    ASSERT_NE(tree, nullptr);
    EXPECT_EQ(*tree, (Tree{{{0, 1, -1, true}, {1, 2, 0, true}, {2, 3, 1, false}}}));
  }
}

}  // namespace
}  // namespace reshard::routing
