// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The proof that a run ends holds for every plan, and finds schedules of which one does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <utility>

#include "tests/unit/exec/proof.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard {
namespace {

using ::testing::AllOf;
using testing::along;
using testing::Choices;
using ::testing::HasSubstr;
using testing::kChain;
using testing::kThroughStaging;
using testing::prove;
using testing::schedules_of;

class ProofTest : public ::testing::TestWithParam<int> {};

TEST_P(ProofTest, RunsOfRandomTreesEnd) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const std::int64_t staging = std::int64_t{8} << choices.pick(12);
    const testing::Scenario scenario = testing::make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(scenario.src, scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    testing::relay_at_random(&choices, &*plan);
    RC_ASSERT(prove(*plan) == "");
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, ProofTest, ::testing::Values(2, 4, 7), ::testing::PrintToStringParamName());

std::string fault(const std::vector<Schedule>& schedules) {
  return check_schedules(schedules).message();
}

TEST(ProofTest, BothEndsMustKeepTheSameOrder) {
  std::vector<Schedule> schedules = schedules_of(along(kThroughStaging), 0);
  EXPECT_EQ(fault(schedules), "");
  std::vector<WindowStep>& receives = schedules[2].in[kRelayLane].steps;
  std::swap(receives[0], receives[1]);
  EXPECT_THAT(fault(schedules),
              AllOf(HasSubstr("rank 1 sends to rank 2: window 0 of route 0, hop 2"), HasSubstr("expects another one")));
  schedules = schedules_of(along(kThroughStaging), 0);
  schedules[1].out[kRelayLane].steps.pop_back();
  EXPECT_THAT(fault(schedules), HasSubstr("the peer gives nothing for it"));
}

/// The window that came first leaves last, but needs the only slot until then.
TEST(ProofTest, AnOrderInWhichASlotIsNeverFreeIsACircle) {
  Plan plan = along({{0, 3, -1, 0, 0, true}, {3, 1, 0}, {3, 2, 0}});
  plan.num_slots = 1;
  std::vector<Schedule> schedules = schedules_of(plan, 0);
  EXPECT_EQ(fault(schedules), "");
  std::reverse(schedules[3].out[kRelayLane].steps.begin(), schedules[3].out[kRelayLane].steps.end());
  for (const std::size_t rank : {1U, 2U}) {
    std::reverse(schedules[rank].in[kRelayLane].steps.begin(), schedules[rank].in[kRelayLane].steps.end());
  }
  EXPECT_THAT(fault(schedules), AllOf(HasSubstr("wait for one another"), HasSubstr("rank 3 receives from rank 0")));
}

TEST(ProofTest, EverySlotMustBeReleased) {
  std::vector<Schedule> schedules = schedules_of(along(kThroughStaging), 0);
  ++schedules[3].in[kFirstLane].steps[1].num_forwards;
  EXPECT_THAT(fault(schedules), AllOf(HasSubstr("rank 3 receives from rank 0: window 1"),
                                      HasSubstr("released after 2 sends, and 1 leave")));
}

TEST(ProofTest, TwoLanesNeedTwoMessagesInFlight) {
  Plan plan = along({{0, 3, -1, 0, 0, true}, {3, 1, 0}, {0, 2}});
  std::vector<Schedule> schedules = schedules_of(plan, 0);
  EXPECT_EQ(fault(schedules), "");
  // Rank 1 would have both kinds to send.
  plan = along({{0, 1}, {1, 2, 0}});
  schedules = schedules_of(plan, 0);
  schedules[1].out[kFirstLane] = schedules[1].out[kRelayLane];
  schedules[1].most_in_flight = 1;
  EXPECT_THAT(fault(schedules), HasSubstr("rank 1 has two lanes and one message in flight"));
}

/// Rank 1 reads from rank 2 what rank 2 reads from rank 1.
TEST(ProofTest, RanksThatReadFromEachOtherAreACircle) {
  std::vector<Schedule> schedules = schedules_of(along(kChain), 100);
  EXPECT_EQ(fault(schedules), "");
  ASSERT_FALSE(schedules[0].out[kMappedLane].steps.empty());
  std::vector<WindowStep> lent = std::move(schedules[0].out[kMappedLane].steps);
  schedules[0].out[kMappedLane].steps.clear();
  for (std::uint32_t i = 0; i < lent.size(); ++i) {
    schedules[1].in[kMappedLane].steps[i].peer = 2;
    lent[i].peer = 1;
    lent[i].place = Place::kDestination;
    lent[i].feed = {kMappedLane, i};
  }
  schedules[2].out[kMappedLane].steps = lent;
  EXPECT_THAT(fault(schedules), AllOf(HasSubstr("wait for one another"), HasSubstr("rank 1 reads from rank 2"),
                                      HasSubstr("rank 2 reads from rank 1")));
}

/// With one group open at a time, two ranks that get their groups in opposite orders and pass them on to each other.
TEST(ProofTest, GroupsThatOpenInOppositeOrdersAreACircle) {
  Plan plan = along(kChain);
  std::vector<Schedule> schedules = schedules_of(plan, 0);
  // As if the windows of rank 1 were of two groups, of which the one is complete after the other, and come in the
  // opposite order.
  Schedule& schedule = schedules[1];
  schedule.num_open = 1;
  schedule.work_of_group = {1, 1};
  schedule.works = {{0}, {1}};
  std::vector<WindowStep>& receives = schedule.in[kFirstLane].steps;
  for (std::size_t i = 0; i < receives.size(); ++i) receives[i].work = i == 0 ? 1 : 0;
  EXPECT_THAT(fault(schedules), AllOf(HasSubstr("wait for one another"), HasSubstr("rank 1: group at position 0")));
}

}  // namespace
}  // namespace reshard
