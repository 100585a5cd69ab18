// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/least_time.h"

#include <gtest/gtest.h>

#include "tests/unit/plan/hand_machine.h"

namespace reshard::routing {
namespace {

using testing::kMega;

/// Of 120 MB from some ranks to others, in seconds.
double least_seconds(const Machine& machine, const std::vector<std::int32_t>& from,
                     const std::vector<std::int32_t>& to) {
  Plan plan;
  plan.bundles.push_back({plan.sets.intern(from), plan.sets.intern(to), 120 * kMega});
  const Time time = least_time(plan, Fabric(machine), DomainSets(machine, plan.sets), {{{0, 0, 120 * kMega}, {}}});
  return static_cast<double>(time.bytes) / static_cast<double>(time.bytes_per_s);
}

/// Domains of two ranks: {0, 1} with ports of 1 and 2 MB/s, {2, 3} with ports of 3 and 5 MB/s; links of 7 MB/s.
Machine two_domains() {
  return testing::hand_machine({{0, 0, kMega, 7 * kMega},
                                {0, 1, 2 * kMega, 7 * kMega},
                                {1, 0, 3 * kMega, 7 * kMega},
                                {1, 1, 5 * kMega, 7 * kMega}});
}

TEST(LeastTimeTest, BytesComeIntoARankByItsLinkAndItsPort) {
  EXPECT_DOUBLE_EQ(least_seconds(two_domains(), {0, 3}, {2}), 12);     // 7 + 3 MB/s
  EXPECT_DOUBLE_EQ(least_seconds(two_domains(), {1, 3}, {0, 2}), 15);  // 7 + 1 MB/s into rank 0
}

TEST(LeastTimeTest, BytesThatNobodyInADomainHoldsComeInByItsPorts) {
  EXPECT_DOUBLE_EQ(least_seconds(two_domains(), {2}, {0, 1}), 40);  // 1 + 2 MB/s, though 3 + 5 send
}

TEST(LeastTimeTest, BytesThatOneDomainAloneHoldsLeaveItByItsPorts) {
  EXPECT_DOUBLE_EQ(least_seconds(two_domains(), {0, 1}, {3}), 40);  // 1 + 2 MB/s, though 3 + 5 receive
}

TEST(LeastTimeTest, RanksThatShareAPortHaveItOnceAndTheirPcieEach) {
  Machine machine = testing::hand_machine({{0, 0, 2 * kMega}, {0, 0, 2 * kMega}, {1, 0, 9 * kMega}});
  EXPECT_DOUBLE_EQ(least_seconds(machine, {2}, {0, 1}), 60);
  EXPECT_DOUBLE_EQ(least_seconds(machine, {0, 1}, {2}), 60);
  for (const RankId rank : {RankId(0), RankId(1)}) machine.gpus[rank].pcie.nominal_bytes_per_s = kMega / 2;
  EXPECT_DOUBLE_EQ(least_seconds(machine, {2}, {0, 1}), 120);
}

TEST(LeastTimeTest, WhatHasNoLimitTakesNoTime) {
  const Machine machine = testing::hand_machine({{0, 0, kMega, kUnlimited}, {0, 0, kMega, kUnlimited}});
  EXPECT_LT(least_seconds(machine, {0}, {1}), 1e-9);
  EXPECT_GT(least_seconds(machine, {0}, {1}), 0);
}

TEST(LeastTimeTest, ARankAloneInItsDomainHasNoUseForLinks) {
  EXPECT_DOUBLE_EQ(least_seconds(testing::hand_machine({{0, 0, kMega}, {1, 0, 2 * kMega}, {2, 0, kMega}}), {0, 2}, {1}),
                   60);
}

}  // namespace
}  // namespace reshard::routing
