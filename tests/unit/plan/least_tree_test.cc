// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a tree pays at least, against the cheapest of all trees on random small machines at random prices.
#include "src/plan/bounds/prices/least_tree.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "src/plan/bounds/prices/few_receivers.h"
#include "src/plan/domain_sets.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"
#include "tests/optimum/cheapest_tree.h"
#include "tests/optimum/random.h"
#include "tests/unit/plan/small_machine.h"

namespace reshard::bounds {
namespace {

using optimum::Random;
using testing::draw_machine;
using testing::draw_need;
using testing::Need;

/// Of all sizes, many of them 0, or with many ties; or as the router's: nearly all far below the largest.
std::vector<std::uint64_t> draw_prices(Random& random, std::int32_t count) {
  std::vector<std::uint64_t> prices(static_cast<std::size_t>(count));
  const int kind = random.between(0, 3);
  for (std::uint64_t& price : prices) {
    const auto number = static_cast<std::uint64_t>(random.between(1, 1000));
    switch (kind) {
      case 0:
        price = number;
        break;
      case 1:
        price = random.one_in(2) ? 0 : number;
        break;
      case 2:
        price = static_cast<std::uint64_t>(random.of({0, 1, 1, 10, 100}));
        break;
      default:
        price = number * number * number * number >> 4U;
        break;
    }
  }
  return prices;
}

optimum::Costs costs_of(const routing::Fabric& fabric, const routing::WayPrices& ways) {
  const std::size_t n = fabric.ranks.size();
  optimum::Costs costs(n, std::vector<double>(n, std::numeric_limits<double>::infinity()));
  for (const RankId src : fabric.ranks.ids()) {
    for (const RankId dst : fabric.ranks.ids()) {
      if (src == dst) continue;
      const std::uint64_t way = ways.way(fabric, src, dst);
      if (way < routing::kNoWay) costs[src.position()][dst.position()] = static_cast<double>(way);
    }
  }
  return costs;
}

RC_GTEST_PROP(LeastTree, IsNeverAboveTheCheapestTree, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const Machine machine = draw_machine(random);
  const routing::Fabric fabric(machine);
  const routing::WayPrices ways(fabric, draw_prices(random, machine.num_resources()));
  const Need need = draw_need(random, machine.num_ranks());
  if (need.lacking.empty()) return;
  const optimum::Tree tree = optimum::cheapest_tree(costs_of(fabric, ways), need.sources, need.lacking);
  if (tree.cost == std::numeric_limits<double>::infinity()) return;

  RankSets sets;
  Bundle bundle;
  bundle.sources = sets.intern(need.sources);
  bundle.destinations = sets.intern(need.destinations);
  const DomainSets domains(machine, sets);
  const routing::Audience audience(domains, bundle);
  LeastTree trees(fabric, ways);
  const auto least = static_cast<double>(trees.least(audience));
  RC_CLASSIFY(least == tree.cost, "exact");
  RC_ASSERT(least <= tree.cost);
  RC_ASSERT(static_cast<double>(trees.least_from_anywhere(audience)) <= least);
  RC_ASSERT(static_cast<double>(trees.least(audience)) == least);  // nothing stays of the bundle before
}

/// Of few receivers it is exact on any machine, with isolated rails, ports that ranks share, and ranks without one.
RC_GTEST_PROP(FewReceivers, AreServedForThePriceOfTheCheapestTreeAndManyForNoMore, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const Machine machine = draw_machine(random);
  const routing::Fabric fabric(machine);
  const routing::WayPrices ways(fabric, draw_prices(random, machine.num_resources()));
  FewReceivers few(fabric, ways);
  for (int i = 0; i < 3; ++i) {  // nothing stays of the bundle before
    const Need need = draw_need(random, machine.num_ranks());
    const optimum::Tree tree = optimum::cheapest_tree(costs_of(fabric, ways), need.sources, need.lacking);
    if (need.lacking.empty() || tree.cost == std::numeric_limits<double>::infinity()) continue;
    RankSets sets;
    const Bundle bundle{sets.intern(need.sources), sets.intern(need.destinations)};
    const DomainSets domains(machine, sets);
    const auto least = static_cast<double>(few.least(routing::Audience(domains, bundle)));
    if (need.lacking.size() <= FewReceivers::kMost) RC_ASSERT(least == tree.cost);
    RC_ASSERT(least <= tree.cost);
    if (need.lacking.size() > 1) continue;
    RC_ASSERT(static_cast<double>(few.ways_from(need.sources)[RankId(need.lacking.front())]) == tree.cost);
  }
}

/// How good it is: of machines of one domain the price of the cheapest tree, and of all machines nearly always.
TEST(LeastTree, IsNearlyAlwaysThePriceOfTheCheapestTree) {
  int num_cases = 0;
  int num_exact = 0;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const Machine machine = draw_machine(random);
    const routing::Fabric fabric(machine);
    const routing::WayPrices ways(fabric, draw_prices(random, machine.num_resources()));
    const Need need = draw_need(random, machine.num_ranks());
    if (need.lacking.empty()) continue;
    const optimum::Tree tree = optimum::cheapest_tree(costs_of(fabric, ways), need.sources, need.lacking);
    if (tree.cost == std::numeric_limits<double>::infinity()) continue;
    RankSets sets;
    Bundle bundle;
    bundle.sources = sets.intern(need.sources);
    bundle.destinations = sets.intern(need.destinations);
    const DomainSets domains(machine, sets);
    LeastTree trees(fabric, ways);
    const bool is_exact = static_cast<double>(trees.least(routing::Audience(domains, bundle))) == tree.cost;
    num_cases += 1;
    num_exact += is_exact ? 1 : 0;
    EXPECT_TRUE(is_exact || machine.domains.size() > 1) << "seed " << seed;
  }
  EXPECT_GE(num_exact * 100, num_cases * 95) << num_exact << " of " << num_cases;
}

}  // namespace
}  // namespace reshard::bounds
