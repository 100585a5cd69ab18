// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The bound that is found quickly, beside the one that it stands in for.
#include "src/plan/bounds/prices/price_bound.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <limits>

#include "src/plan/bounds/prices/certificate.h"
#include "src/plan/bounds/prices/least_tree.h"
#include "tests/optimum/cheapest_tree.h"
#include "tests/optimum/random.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/small_machine.h"

namespace reshard::bounds {
namespace {

using optimum::Random;
using testing::draw_machine;
using testing::draw_need;
using testing::HandRank;
using testing::kMega;
using testing::Need;

/// Bundles of some bytes, and what is in common with a plan.
struct Bundles {
  RankSets sets;
  std::vector<Bundle> bundles;
  std::vector<Piece> pieces;

  void add(const std::vector<std::int32_t>& sources, const std::vector<std::int32_t>& destinations,
           std::int64_t size_bytes) {
    pieces.push_back({static_cast<std::int32_t>(bundles.size()), size_bytes});
    bundles.push_back({sets.intern(sources), sets.intern(destinations), size_bytes, 0, -1});
  }
};

/// Whether a way leads from the sources to all who lack the bytes.
bool is_reached(const routing::Fabric& fabric, const routing::WayPrices& ways, const Need& need) {
  const std::size_t n = fabric.ranks.size();
  optimum::Costs costs(n, std::vector<double>(n, std::numeric_limits<double>::infinity()));
  for (const RankId src : fabric.ranks.ids()) {
    for (const RankId dst : fabric.ranks.ids()) {
      if (src != dst && ways.way(fabric, src, dst) < routing::kNoWay) costs[src.position()][dst.position()] = 1;
    }
  }
  return optimum::cheapest_tree(costs, need.sources, need.lacking).cost < std::numeric_limits<double>::infinity();
}

/// Bundles share destinations, which is what makes it quick; sources may be in their domains, or not.
RC_GTEST_PROP(QuickPriceBound, IsNeverAboveTheOtherAndAsHighAsItIsBundleByBundle, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const Machine machine = draw_machine(random);
  const routing::Fabric fabric(machine);
  std::vector<std::uint64_t> prices;
  for (std::int32_t r = 0; r < machine.num_resources(); ++r) {
    prices.push_back(static_cast<std::uint64_t>(random.of({0, 1, 10, 100, 1000})));
  }
  const routing::WayPrices ways(fabric, prices);
  Bundles all;
  for (int kind = random.between(1, 2); kind > 0; --kind) {
    const std::vector<std::int32_t> destinations = draw_need(random, machine.num_ranks()).destinations;
    for (int i = random.between(1, 4); i > 0; --i) {
      Need need{draw_need(random, machine.num_ranks()).sources, destinations, {}};
      std::set_difference(destinations.begin(), destinations.end(), need.sources.begin(), need.sources.end(),
                          std::back_inserter(need.lacking));
      if (!need.lacking.empty() && is_reached(fabric, ways, need)) {
        all.add(need.sources, destinations, random.between(1, 1000));
      }
    }
  }
  const DomainSets domains(machine, all.sets);
  const std::vector<std::int64_t> base(prices.size(), 3);
  const Task task{all.bundles, domains, all.pieces, base};
  const PriceBound bound = price_bound(fabric, task, prices);
  const PriceBound quick = quick_price_bound(fabric, task, prices);
  RC_ASSERT(quick.capacity == bound.capacity);
  RC_ASSERT(quick.cost <= bound.cost);

  PriceBound::Sum cost = 0;
  for (std::size_t r = 0; r < prices.size(); ++r) cost += fabric.capacities[r] == kUnlimited ? 0 : 3 * prices[r];
  for (const Bundle& bundle : all.bundles) {
    LeastTree trees(fabric, ways);
    cost += PriceBound::Sum{trees.least_from_anywhere(routing::Audience(domains, bundle))} *
            static_cast<std::uint64_t>(bundle.size_bytes);
  }
  RC_ASSERT(bound.capacity == 1 || quick.cost == cost);
}

/// A job of which a bound at prices takes long: 200 holders in domains of their own, each of which holds what all ranks
/// of 100 domains want. Their ports are busy for 3.6 s, those of the domains for 4. That holders must send at all is
/// overlooked where the way is quick.
TEST(Certificate, IsQuickWhereAnotherBoundIsNear) {
  std::vector<HandRank> ranks;
  for (std::int32_t rank = 0; rank < 200; ++rank) ranks.push_back({rank, 0, kMega * 5 / 18});
  for (std::int32_t rank = 0; rank < 200; ++rank) ranks.push_back({200 + rank / 2, 0, 50 * kMega});
  const Machine machine = testing::hand_machine(ranks);
  std::vector<std::int32_t> wanting(200);
  for (std::int32_t i = 0; i < 200; ++i) at(wanting, i) = 200 + i;
  Bundles all;
  for (std::int32_t rank = 0; rank < 200; ++rank) all.add({rank}, wanting, kMega);
  const routing::Fabric fabric(machine);
  const DomainSets domains(machine, all.sets);
  const std::vector<std::int64_t> base(static_cast<std::size_t>(machine.num_resources()));
  const Task task{all.bundles, domains, all.pieces, base};
  std::vector<std::int64_t> loads(base.size());  // each holder sends once, each domain receives once
  for (std::int32_t port = 0; port < 300; ++port) {
    at(loads, machine.resource(port < 200 ? ResourceKind::kNicOut : ResourceKind::kNicIn, port)) =
        port < 200 ? kMega : 200 * kMega;
  }
  const double seconds = 4;
  const Certificate near = certify(fabric, task, loads, seconds);
  EXPECT_TRUE(near.bound.cost == quick_price_bound(fabric, task, near.prices).cost);
  EXPECT_TRUE(near.bound.cost < price_bound(fabric, task, near.prices).cost);
  const Certificate far = certify(fabric, task, loads, seconds / 2);
  EXPECT_TRUE(far.bound.cost == price_bound(fabric, task, far.prices).cost);
  EXPECT_NEAR(far.bound.seconds(), seconds, seconds / 100);
}

}  // namespace
}  // namespace reshard::bounds
