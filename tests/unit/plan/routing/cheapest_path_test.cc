// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From one holder to one rank that lacks the bytes a tree is a path. The cheapest that passes no third domain is found
// here by trying them all: leave the holder's domain at any of its ranks, come into the other at any of its.
#include <gtest/gtest.h>

#include "src/plan/routing/grow_tree.h"
#include "tests/unit/plan/routing/random_fabric.h"
#include "tests/unit/plan/routing/tree_checks.h"

namespace reshard::routing {
namespace {

using optimum::Random;

// Prices are whole multiples of a unit, 1/16 of the full price, or nearly: what the router adds for depth, relays and
// as the floor is less, even of a whole path. So the cheapest path is the one with the fewest units.
constexpr std::int64_t kBytesPerUnit = 1'000'000;  // of the links of a small machine, which all have this speed

/// A random machine with prices of 0 to 16 units.
struct Units {
  explicit Units(Random& random) : machine(testing::draw_machine(random)) {
    prices.set_exponent(0);
    prices.set_time({16, 1});
    for (std::int32_t r = 0; r < machine.num_resources(); ++r) {
      units.push_back(machine.link_of(r).is_limited() ? random.between(0, random.of({1, 4, 16})) : 0);
      prices.add(r, units.back() * kBytesPerUnit);
    }
  }
  /// Of a hop; infinite where there is no way.
  int of(std::int32_t src, std::int32_t dst) const {
    if (!testing::is_joined(machine, src, dst)) return kNever;
    std::vector<std::int32_t> passed;
    machine.append_uses(RankId(src), RankId(dst), &passed);
    int sum = 0;
    for (const std::int32_t resource : passed) sum += at(units, resource);
    return sum;
  }
  int of(const Tree& tree) const {
    int sum = 0;
    for (const Tree::Arc& arc : tree.arcs) sum += of(arc.src, arc.dst);
    return sum;
  }
  const std::vector<std::int32_t>& domain_of(std::int32_t rank) const {
    return machine.domains[machine.gpus[RankId(rank)].domain].ranks;
  }
  int least(std::int32_t src, std::int32_t dst) const {
    if (machine.same_domain(RankId(src), RankId(dst))) return of(src, dst);
    int best = kNever;
    for (const std::int32_t exit : domain_of(src)) {
      for (const std::int32_t entry : domain_of(dst)) {
        const int out = exit == src ? 0 : of(src, exit);
        const int in = entry == dst ? 0 : of(entry, dst);
        best = std::min(best, out + of(exit, entry) + in);
      }
    }
    return best;
  }

  static constexpr int kNever = 1'000'000;
  const Machine machine;
  const Fabric fabric{machine};
  const Uses uses{fabric};
  Prices prices{fabric};
  std::vector<int> units;
};

TEST(CheapestPathTest, ATreeForOneRankIsTheCheapestPathThatPassesNoThirdDomain) {
  int num_relayed = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Units given(random);
    const int num_ranks = given.machine.num_ranks();
    const std::int32_t src = random.between(0, num_ranks - 1);
    const std::int32_t dst = (src + random.between(1, num_ranks - 1)) % num_ranks;
    const testing::Need need{{src}, {dst}, {dst}};
    const testing::AskedFor asked(given.machine, need);
    TreeGrower grower(given.fabric, given.uses, given.prices);  // knows of no third domains: it has not settled
    const TreePtr tree = grower.grow(asked.audience, 0, static_cast<std::uint32_t>(seed));
    const int least = given.least(src, dst);
    ASSERT_EQ(tree != nullptr, least < Units::kNever);
    if (tree == nullptr) continue;
    EXPECT_EQ(testing::fault_of(given.machine, *tree, need), "");
    EXPECT_EQ(given.of(*tree), least);
    num_relayed += tree->arcs.size() > 1 ? 1 : 0;
  }
  EXPECT_GT(num_relayed, 150);
}

}  // namespace
}  // namespace reshard::routing
