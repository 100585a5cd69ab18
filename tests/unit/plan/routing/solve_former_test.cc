// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From the trees of an older plan: what is good stays, what is not is bettered, who is new grows on.
#include <gtest/gtest.h>

#include "tests/unit/plan/routing/solved.h"

namespace reshard::routing {
namespace {

using testing::kMega;
using testing::Solved;

TreePtr hops(const std::vector<Tree::Arc>& arcs) {
  return std::make_shared<const Tree>(Tree{arcs});
}

/// Two holders, each a host; of 100 MB the first one sent so many to a third host, the second one the rest.
Solved two_senders(std::int64_t cut, std::int64_t into_third = 100 * kMega) {
  const Machine machine = testing::hand_machine({{0}, {1}, {2, 0, into_third}});
  return Solved(
      machine,
      {{{0, 1}, {2}, 100 * kMega, {{{0, 0, cut}, hops({{0, 2, -1}})}, {{0, cut, 100 * kMega}, hops({{1, 2, -1}})}}}});
}

/// The third host receives no faster than one of the two sends, so that any division is as good.
TEST(SolveFormerTest, TreesThatAreAtTheLimitKeepAllTheirBytes) {
  for (const std::int64_t cut : {kMega, 37 * kMega, 90 * kMega}) {
    const Solved solved = two_senders(cut, kMega);
    solved.expect_seconds(100);
    EXPECT_EQ(solved.load(ResourceKind::kNicOut, 0), cut);
  }
}

TEST(SolveFormerTest, BytesLeaveTreesThatAreNot) {
  for (const std::int64_t mega : {10, 45, 70, 99}) two_senders(mega * kMega).expect_seconds(50);
}

/// The first host sent all to the second; now a third one wants them, too, and gets them from the second.
TEST(SolveFormerTest, WhoIsNewGrowsOnAndTheRestStays) {
  const Machine machine = testing::hand_machine({{0}, {1}, {2}});
  const TreePtr part = hops({{0, 1, -1}});
  const Solved solved(machine, {{{0}, {1, 2}, 100 * kMega, {{{0, 0, 100 * kMega}, part}}}});
  solved.expect_seconds(100);
  for (const Share& share : solved.demands.front().shares) EXPECT_TRUE(begins_with(*share.tree, *part));
}

/// 60 of 100 MB had a tree. The rest goes along what grew on from it, or along others.
TEST(SolveFormerTest, BytesThatHadNoTreeGoWithTheOthers) {
  const Machine machine = testing::hand_machine({{0}, {1}, {2}});
  const TreePtr part = hops({{0, 1, -1}});
  const Solved solved(machine, {{{0}, {1, 2}, 100 * kMega, {{{0, 0, 60 * kMega}, part}}}});
  solved.expect_seconds(100);
  EXPECT_EQ(solved.load(ResourceKind::kNicIn, 1), 100 * kMega);
  EXPECT_EQ(solved.load(ResourceKind::kNicIn, 2), 100 * kMega);
}

}  // namespace
}  // namespace reshard::routing
