// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The cheapest way through a third domain against a look at all of them.
#include "src/plan/routing/detours.h"

#include <gtest/gtest.h>

#include "tests/unit/plan/routing/random_fabric.h"

namespace reshard::routing {
namespace {

using optimum::Random;
using testing::RandomFabric;

/// Some domains can send, one is to be reached, and the rest may be passed.
class Ways {
 public:
  explicit Ways(Random& random) : given_(random), own_(given_.fabric, given_.uses, given_.prices) {
    own_.begin(0);
    exits_.begin(RankId(0));
    target_ = DomainId(random.between(0, given_.machine.domains.end_id() - 1));
    for (const DomainId domain : given_.machine.domains.ids()) {
      is_free_.push_back(domain != target_ && !random.one_in(3));
      if (is_free_[domain] || domain == target_) continue;
      for (const std::int32_t rank : given_.machine.domains[domain].ranks) {
        if (!given_.fabric.has_port(RankId(rank))) continue;
        senders_.push_back(RankId(rank));
        exits_.add(RankId(rank));
      }
    }
    detours_.choose_domains(given_.prices, given_.uses);
  }

  void check(std::uint64_t most, std::size_t num_sharing) {
    const std::vector<std::int32_t>& to = given_.machine.domains[target_].ranks;
    const auto found = detours_.find(to, most, num_sharing, [&](DomainId domain) { return bool{is_free_[domain]}; });
    std::uint64_t least = most;
    for (const RankId entry : given_.fabric.ranks.ids()) {
      for (const RankId exit : given_.fabric.ranks.ids()) least = std::min(least, price(entry, exit, num_sharing));
    }
    EXPECT_EQ(found.price, least);
    EXPECT_EQ(found.entry.valid(), least < most);
    if (!found.entry.valid()) return;
    EXPECT_EQ(price(found.entry, found.exit, num_sharing), least);
    is_found_ = true;
  }
  bool is_found() const { return is_found_; }

 private:
  std::uint64_t between_ports(RankId src, RankId dst) {
    const bool is_way = given_.fabric.has_port(src) && given_.fabric.has_port(dst) && given_.machine.reaches(src, dst);
    if (!is_way) return kNoWay;
    return own_.port_out(src) + own_.port_in(dst) +
           given_.crossing(src, dst, [&](std::int32_t resource) { return own_.of(resource); });
  }
  /// From any sender by this pair of a free domain to the target.
  std::uint64_t price(RankId entry, RankId exit, std::size_t num_sharing) {
    const DomainId domain = given_.fabric.ranks[entry].domain;
    if (!is_free_[domain] || domain != given_.fabric.ranks[exit].domain) return kNoWay;
    std::uint64_t in = kNoWay;
    for (const RankId sender : senders_) in = std::min(in, between_ports(sender, entry));
    if (in >= kNoWay) return kNoWay;
    if (entry != exit) in += own_.link_out(entry) + own_.link_in(exit);
    std::uint64_t least = kNoWay;
    for (const std::int32_t last : given_.machine.domains[target_].ranks) {
      least = std::min(least, in / num_sharing + between_ports(exit, RankId(last)));
    }
    return least;
  }

  RandomFabric given_;
  OwnPrices own_;
  BestExits exits_{given_.fabric, &own_, [this](RankId rank) { return own_.port_out(rank); }};
  Detours detours_{given_.fabric, &own_, &exits_};
  DomainId target_;
  IndexedVector<DomainId, bool> is_free_;
  std::vector<RankId> senders_;
  bool is_found_ = false;
};

TEST(DetoursTest, AreTheCheapestWayThroughAFreeDomain) {
  int num_found = 0;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Ways ways(random);
    ways.check(kNoWay, 1);
    ways.check(kNoWay, 3);
    ways.check(static_cast<std::uint64_t>(random.between(1, 8)) * Prices::kFullPrice / 4, 1);
    num_found += ways.is_found() ? 1 : 0;
  }
  EXPECT_GT(num_found, 100);
}

}  // namespace
}  // namespace reshard::routing
