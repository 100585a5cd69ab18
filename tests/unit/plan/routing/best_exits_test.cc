// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The cheapest exit against a look at all of them.
#include "src/plan/routing/best_exits.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/routing/random_fabric.h"

namespace reshard::routing {
namespace {

using optimum::Random;
using testing::RandomFabric;

/// Exits of a random machine, each with a price of its own on top of its port's, as a hop to it would be.
class Exits {
 public:
  explicit Exits(Random& random) : random_(random), given_(random), own_(given_.fabric, given_.uses, given_.prices) {
    for ([[maybe_unused]] const RankId rank : given_.fabric.ranks.ids()) extra_.push_back(drawn_extra());
  }

  void begin() {
    own_.begin(random_.one_in(2) ? 0 : random_.between(1, 1'000'000) * std::int64_t{1'000'000});
    exits_.begin(RankId(random_.between(0, given_.fabric.ranks.end_id() - 1)));
    added_.clear();
  }
  /// Somebody can send, something has become dearer, or an exit cheaper.
  void change() {
    const RankId rank(random_.between(0, given_.fabric.ranks.end_id() - 1));
    switch (random_.between(0, 3)) {
      case 0:
        if (given_.fabric.has_port(rank)) add(rank);
        break;
      case 1:
        own_.use(random_.between(0, given_.machine.num_resources() - 1));
        break;
      case 2:
        extra_[rank] += drawn_extra();
        break;
      default:
        if (!added_.contains(rank)) break;
        extra_[rank] /= 2;
        add(rank);
    }
  }
  /// Looks for the best of all to each rank, once with all domains and once without one of them.
  void check() {
    for (const RankId to : given_.fabric.ranks.ids()) {
      if (!given_.fabric.has_port(to)) continue;
      for (const DomainId but : {DomainId(), given_.fabric.ranks[to].domain}) {
        std::uint64_t least = kNoWay;
        for (const auto& [rank, unused] : added_) {
          const bool is_allowed = given_.fabric.ranks[rank].domain != but;
          if (is_allowed && joined(rank, to)) least = std::min(least, price(rank, to));
        }
        const BestExits::Exit best = exits_.best(to, but);
        RC_ASSERT(best.price == least);
        RC_ASSERT(best.rank.valid() == (least < kNoWay));
        if (!best.rank.valid()) continue;
        RC_ASSERT(added_.contains(best.rank));
        RC_ASSERT(given_.fabric.ranks[best.rank].domain != but);
        RC_ASSERT(joined(best.rank, to));
        RC_ASSERT(price(best.rank, to) == least);
      }
    }
  }

 private:
  std::uint64_t drawn_extra() { return static_cast<std::uint64_t>(random_.between(0, 3)) * Prices::kFullPrice / 64; }
  void add(RankId rank) {
    exits_.add(rank);
    added_[rank] = true;
  }
  bool joined(RankId src, RankId dst) const {
    const auto rail = [&](RankId rank) { return given_.machine.ports[given_.machine.gpus[rank].port].rail; };
    return !given_.machine.rail_isolated || rail(src) == rail(dst);
  }
  std::uint64_t exit_price(RankId rank) { return own_.port_out(rank) + extra_[rank]; }
  std::uint64_t price(RankId src, RankId dst) {
    return exit_price(src) + given_.crossing(src, dst, [&](std::int32_t resource) { return own_.of(resource); });
  }

  Random& random_;
  RandomFabric given_;
  OwnPrices own_;
  IndexedVector<RankId, std::uint64_t> extra_;
  std::map<RankId, bool> added_;
  BestExits exits_{given_.fabric, &own_, [this](RankId rank) { return exit_price(rank); }};
};

RC_GTEST_PROP(BestExitsTest, AreTheCheapestOfAllWhateverHasRisenMeanwhile, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  Exits exits(random);
  for (int tree = 0; tree < 3; ++tree) {  // nothing stays of the tree before
    exits.begin();
    exits.check();
    for (int i = 0; i < 24; ++i) {
      exits.change();
      if (random.one_in(2)) exits.check();
    }
  }
}

/// Four hosts of a rank each, under one leaf.
TEST(BestExitsTest, OfEqualOnesTheFirstInTheCircleOfRanksIsTaken) {
  const Machine machine = testing::hand_machine({{0}, {1}, {2}, {3}});
  const Fabric fabric(machine);
  const Uses uses(fabric);
  Prices prices(fabric);
  prices.set_time({1, 1});
  OwnPrices own(fabric, uses, prices);
  own.begin(0);
  BestExits exits(fabric, &own, [&](RankId rank) { return own.port_out(rank); });
  for (const auto& [first, expected] : {std::pair{0, 0}, {1, 1}, {2, 2}, {3, 0}}) {
    exits.begin(RankId(first));
    for (const int rank : {2, 0, 1}) exits.add(RankId(rank));
    EXPECT_EQ(exits.best(RankId(3)).rank, RankId(expected));
  }
  prices.add(machine.resource(ResourceKind::kNicOut, 0), testing::kMega);
  EXPECT_EQ(exits.best(RankId(3)).rank, RankId(1));
  EXPECT_EQ(exits.best(RankId(3), DomainId(1)).rank, RankId(2));
}

}  // namespace
}  // namespace reshard::routing
