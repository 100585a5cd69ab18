// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/cheapest_feeds.h"

#include <gtest/gtest.h>

#include "tests/unit/plan/routing/random_need.h"

namespace reshard::routing {
namespace {

/// What a byte pays for a hop, as the machine says what it passes.
std::uint64_t price_of(const testing::RandomFabric& given, std::int32_t src, std::int32_t dst) {
  std::vector<std::int32_t> passed;
  given.machine.append_uses(RankId(src), RankId(dst), &passed);
  std::uint64_t sum = 0;
  for (const std::int32_t resource : passed) sum += given.prices.of(resource);
  return sum;
}

std::uint64_t price_of(const testing::RandomFabric& given, const Tree& tree) {
  std::uint64_t sum = 0;
  for (const Tree::Arc& arc : tree.arcs) sum += price_of(given, arc.src, arc.dst);
  return sum;
}

/// Whom bytes pass on the way to a rank, itself first and a holder last.
std::vector<std::int32_t> way_to(const Tree& tree, std::int32_t rank) {
  std::vector<std::int32_t> way{rank};
  while (true) {
    const auto arc = std::find_if(tree.arcs.begin(), tree.arcs.end(), [&](const auto& a) { return a.dst == rank; });
    if (arc == tree.arcs.end()) return way;
    way.push_back(rank = arc->src);
  }
}

/// Depth has its price, too.
TEST(CheapestFeedsTest, NobodyIsFedForLessByAnotherThatHasTheBytes) {
  int num_changed = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    SCOPED_TRACE(seed);
    testing::RandomNeed drawn(seed);
    auto& [random, given, need, asked, grower] = drawn;
    // As if it carried much: it then takes ways that are not the cheapest.
    const TreePtr grown = grower.grow(asked.audience, 1'000'000'000'000, 0);
    if (grown == nullptr) continue;
    const Tree tree = with_cheapest_feeds(*grown, asked.audience, given.fabric, given.uses, given.prices);
    EXPECT_EQ(testing::fault_of(given.machine, tree, need), "");
    EXPECT_EQ(testing::num_idle(tree), 0U);
    num_changed += price_of(given, tree) < price_of(given, without_idle_relays(*grown)) ? 1 : 0;
    std::vector<std::int32_t> having = need.sources;
    for (const Tree::Arc& arc : tree.arcs) having.push_back(arc.dst);
    for (const Tree::Arc& arc : tree.arcs) {
      for (const std::int32_t other : having) {
        const std::vector<std::int32_t> way = way_to(tree, other);
        if (testing::contains(way, arc.dst) || !testing::is_joined(given.machine, other, arc.dst)) continue;
        EXPECT_GE(price_of(given, other, arc.dst) + kLevelPrice * way.size(),
                  price_of(given, arc.src, arc.dst) + kLevelPrice * way_to(tree, arc.src).size())
            << other << "->" << arc.dst;
      }
    }
  }
  EXPECT_GT(num_changed, 100);
}

}  // namespace
}  // namespace reshard::routing
