// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/mend_tree.h"

#include <gtest/gtest.h>

#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/routing/random_need.h"

namespace reshard::routing {
namespace {

using Ranks = std::vector<std::int32_t>;
using Arcs = std::vector<Tree::Arc>;

/// Domains {0, 1, 2}, {3, 4, 5}, {6} and {7}; all ports are joined. Rank 0 holds the bytes, the rest wants them.
class MendTreeTest : public ::testing::Test {
 protected:
  Arcs mend(const Arcs& arcs, const Ranks& holders, const Ranks& wanted, const Ranks& gone, std::uint32_t salt = 0) {
    const Machine machine = testing::hand_machine({{0}, {0}, {0}, {1}, {1}, {1}, {2}, {3}});
    const Fabric fabric(machine);
    std::vector<bool> is_gone(8);
    for (const std::int32_t rank : gone) is_gone[static_cast<std::size_t>(rank)] = true;
    return mend_tree(fabric, {arcs}, {holders, wanted, is_gone}, salt).arcs;
  }
};

TEST_F(MendTreeTest, NothingChangesWhereNobodyIsGone) {
  const Arcs arcs{{0, 1, -1}, {0, 3, -1}, {3, 4, 1}, {3, 5, 1, true}, {5, 6, 3}};
  EXPECT_EQ(mend(arcs, {0}, {1, 3, 4, 6}, {}), arcs);
}

TEST_F(MendTreeTest, WhoFedNobodyGoesAlone) {
  EXPECT_EQ(mend({{0, 1, -1}, {0, 3, -1}, {3, 4, 1}, {3, 6, 1}}, {0}, {1, 3, 6}, {4}),
            (Arcs{{0, 1, -1}, {0, 3, -1}, {3, 6, 1}}));
}

TEST_F(MendTreeTest, ChildrenInTheDomainOfWhoIsGoneAreFedByTheFirstOfThem) {
  EXPECT_EQ(mend({{0, 1, -1}, {0, 3, -1}, {3, 4, 1}, {3, 5, 1}, {5, 6, 3}, {3, 7, 1}}, {0}, {1, 4, 5, 6, 7}, {3}),
            (Arcs{{0, 1, -1}, {0, 4, -1}, {4, 5, 1}, {5, 6, 2}, {4, 7, 1}}));
}

TEST_F(MendTreeTest, ChildrenInOtherDomainsAreFedByWhatFedWhoIsGone) {
  EXPECT_EQ(mend({{0, 3, -1}, {3, 6, 0}, {6, 7, 1}}, {0}, {3, 7}, {6}), (Arcs{{0, 3, -1}, {3, 7, 0}}));
  EXPECT_EQ(mend({{0, 3, -1}, {3, 6, 0}, {3, 7, 0}}, {0}, {6, 7}, {3}), (Arcs{{0, 6, -1}, {0, 7, -1}}));
}

TEST_F(MendTreeTest, WhoOnlyPassedTheBytesOnStaysIfItIsThere) {
  const Arcs arcs{{0, 3, -1, true}, {3, 4, 0}};
  EXPECT_EQ(mend(arcs, {0}, {4}, {}), arcs);
  EXPECT_EQ(mend(arcs, {0}, {4}, {3}), (Arcs{{0, 4, -1}}));
  // A relay that wants the bytes now is no relay, and one that serves nobody any more goes.
  EXPECT_EQ(mend(arcs, {0}, {3, 4}, {}), (Arcs{{0, 3, -1}, {3, 4, 0}}));
  EXPECT_EQ(mend({{0, 3, -1, true}, {3, 4, 0}, {0, 6, -1}}, {0}, {6}, {4}), (Arcs{{0, 6, -1}}));
}

TEST_F(MendTreeTest, WhoDoesNotWantTheBytesAnyMoreIsLeftOut) {
  EXPECT_EQ(mend({{0, 3, -1}, {3, 4, 0}, {3, 5, 0}}, {0}, {4, 5}, {}), (Arcs{{0, 4, -1}, {4, 5, 0}}));
}

TEST_F(MendTreeTest, AnotherHolderTakesThePlaceOfOneThatIsGone) {
  const Arcs arcs{{0, 6, -1}, {6, 7, 0}};
  EXPECT_EQ(mend(arcs, {1, 2, 3}, {6, 7}, {0}), (Arcs{{1, 6, -1}, {6, 7, 0}}));  // from the same domain, by salt
  EXPECT_EQ(mend(arcs, {1, 2, 3}, {6, 7}, {0}, 1), (Arcs{{2, 6, -1}, {6, 7, 0}}));
  EXPECT_EQ(mend(arcs, {3}, {6, 7}, {0}), (Arcs{{3, 6, -1}, {6, 7, 0}}));
}

TEST_F(MendTreeTest, WhoHoldsTheBytesNowGetsNoneAndFeedsTheSame) {
  EXPECT_EQ(mend({{0, 3, -1}, {3, 4, 0}, {4, 6, 1}}, {0, 3}, {3, 4, 6}, {}), (Arcs{{3, 4, -1}, {4, 6, 0}}));
}

TEST_F(MendTreeTest, WhoIsNotReachedIsLeftOutWithAllBehindIt) {
  Machine machine = testing::hand_machine({{0, 0}, {1, 0}, {1, 1}, {2, 1}, {2, 1}});
  machine.rail_isolated = true;
  const Fabric fabric(machine);
  const Ranks holders{0};
  const Ranks wanted{3, 4};
  std::vector<bool> is_gone(5);
  is_gone[2] = true;  // the only one that joined the rails
  EXPECT_EQ(
      mend_tree(fabric, {{{0, 1, -1, true}, {1, 2, 0, true}, {2, 3, 1}, {3, 4, 2}}}, {holders, wanted, is_gone}, 0),
      Tree());
}

bool are_all_joined(const Machine& machine) {
  for (std::int32_t src = 0; src < machine.num_ranks(); ++src) {
    for (std::int32_t dst = 0; dst < src; ++dst) {
      if (!testing::is_joined(machine, src, dst)) return false;
    }
  }
  return true;
}

/// Trees of random machines, one rank of which is lost: who stays has a valid tree, what had nothing to do with the
/// lost rank is as it was, and nobody is left out where all ranks are joined.
TEST(MendTreeLawTest, TheRestStaysAsItIs) {
  int num_fed = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    SCOPED_TRACE(seed);
    testing::RandomNeed drawn(seed);
    auto& [random, given, need, asked, grower] = drawn;
    grower.settle(given.prices);
    const TreePtr grown = grower.grow(asked.audience, random.one_in(2) ? 0 : 1'000'000'000, 0);
    if (grown == nullptr || grown->arcs.empty()) continue;
    const Tree tree = without_idle_relays(*grown);
    const std::int32_t lost = tree.arcs[static_cast<std::size_t>(random.between(0, int(tree.arcs.size()) - 1))].dst;
    testing::Need now = need;
    for (Ranks* ranks : {&now.destinations, &now.lacking}) std::erase(*ranks, lost);
    std::vector<bool> is_gone(given.fabric.ranks.size());
    is_gone[static_cast<std::size_t>(lost)] = true;
    const Tree mended = mend_tree(given.fabric, tree, {now.sources, now.destinations, is_gone}, 0);
    EXPECT_EQ(testing::fault_of(given.machine, mended, now, are_all_joined(given.machine)), "");
    EXPECT_EQ(testing::num_idle(mended), 0U);
    const bool fed_others =
        std::any_of(tree.arcs.begin(), tree.arcs.end(), [&](const Tree::Arc& arc) { return arc.src == lost; });
    num_fed += fed_others && are_all_joined(given.machine) ? 1 : 0;
    for (const Tree::Arc& arc : mended.arcs) {
      EXPECT_NE(arc.src, lost);
      EXPECT_NE(arc.dst, lost);
      const bool is_old = std::any_of(tree.arcs.begin(), tree.arcs.end(),
                                      [&](const auto& old) { return old.src == arc.src && old.dst == arc.dst; });
      const bool was_fed_by_lost = std::any_of(tree.arcs.begin(), tree.arcs.end(),
                                               [&](const auto& old) { return old.src == lost && old.dst == arc.dst; });
      EXPECT_NE(is_old, was_fed_by_lost);
    }
  }
  EXPECT_GT(num_fed, 50);
}

}  // namespace
}  // namespace reshard::routing
