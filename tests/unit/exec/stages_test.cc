// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Stages of every plan keep to what they promise, and end however long anything takes; and what breaks a promise is
// found, both by the proof and by playing it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <random>
#include <utility>

#include "src/exec/check_stages.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/exec/stage_run.h"
#include "tests/unit/exec/stages_of.h"
#include "tests/unit/scenario/random_machine.h"

namespace reshard {
namespace {

using testing::along;
using testing::Choices;
using testing::GroupRule;
using ::testing::HasSubstr;
using testing::kChain;
using testing::kThroughStaging;
using testing::play;
using testing::schedules_of;
using testing::stages_of;

/// How the stages of a plan are made. Drawn before the plan, which takes as many numbers as it likes: those that come
/// after it are 0 most of the time.
struct Ways {
  explicit Ways(Choices* choices)
      : most(std::array{2, 3, 6, 0}[static_cast<std::size_t>(choices->pick(4))]),
        percent(std::array{0U, 100U, 40U}[static_cast<std::size_t>(choices->pick(3))]) {}
  std::int32_t most;      // operations to a group
  std::uint32_t percent;  // of the peers' memory that is read in place
};

/// Proves and plays the stages of a plan, with few and many operations to a group. Empty: all is well.
std::string try_all(const Plan& plan, const Ways& ways) {
  const std::int32_t most = ways.most;
  const StageLimits limits{most, plan.options.staging_bytes};
  const std::vector<StageSchedule> stages = stages_of(plan, schedules_of(plan, ways.percent), limits);
  const Status status = check_stages(stages, limits);
  if (!status.ok()) return status.message();
  for (std::uint32_t seed = 1; seed <= 6; ++seed) {
    const std::string carried = play(stages, {false, std::max(2, most)}, seed);
    if (!carried.empty()) return "where rounds are carried over: " + carried;
    // Without a limit only the newer rule is sure to end.
    const std::string restarted = most == 0 ? "" : play(stages, {true, most}, seed);
    if (!restarted.empty()) return "where rounds restart: " + restarted;
  }
  return {};
}

class StagesLawTest : public ::testing::TestWithParam<int> {};

TEST_P(StagesLawTest, RunsOfRandomTreesEnd) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const Ways ways(&choices);
    const std::int64_t staging = std::int64_t{8} << choices.pick(12);
    const testing::Scenario scenario = testing::make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(scenario.src, scenario.dst, {staging});
    RC_ASSERT(plan.status().message() == "");
    if (choices.pick(4) > 0) testing::relay_at_random(&choices, &*plan);
    RC_ASSERT(try_all(*plan, ways) == "");
  }));
}

TEST_P(StagesLawTest, RunsOnRandomMachinesEnd) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const Ways ways(&choices);
    PlanOptions options;
    options.staging_bytes = std::int64_t{16} << choices.pick(12);
    options.machine = testing::make_random_machine(&choices, GetParam());
    options.order = choices.pick(2) == 0 ? GroupOrder::kFixed : GroupOrder::kRotated;
    options.open_groups = choices.pick(3);
    const testing::Scenario scenario = testing::make_scenario(&choices, GetParam());
    const Result<Plan> plan = create_plan(scenario.src, scenario.dst, options);
    if (testing::is_out_of_reach(plan.status())) return;
    RC_ASSERT(plan.status().message() == "");
    RC_ASSERT(try_all(*plan, ways) == "");
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, StagesLawTest, ::testing::Values(2, 4, 7, 10), ::testing::PrintToStringParamName());

/// Many windows along the given hops.
Plan in_windows(const std::vector<Hop>& hops) {
  Plan plan = along(hops);
  plan.window_bytes = 256;
  return plan;
}

constexpr StageLimits kLimits = {6, 4096};

/// Links of nobody's memory: all messages are staged.
std::vector<Schedule> staged(const Plan& plan) {
  std::vector<Schedule> schedules;
  RankLinks links;
  links.stages_all = true;
  for (std::int32_t rank = 0; rank < plan.num_ranks; ++rank) schedules.push_back(build_schedule(plan, rank, links));
  return schedules;
}

std::vector<StageSchedule> stages_along(const std::vector<Hop>& hops) {
  const Plan plan = in_windows(hops);
  return stages_of(plan, staged(plan), kLimits);
}

/// What the proof says first, and whether playing any seed goes wrong.
std::string fault(const std::vector<StageSchedule>& stages) {
  return check_stages(stages, kLimits).message();
}
bool goes_wrong(const std::vector<StageSchedule>& stages) {
  for (std::uint32_t seed = 1; seed <= 50; ++seed) {
    if (!play(stages, {true, 6}, seed).empty()) return true;
  }
  return false;
}

/// A chain takes in a window and gives on the one before in one group: its stages are not twice as many as its rounds.
TEST(StagesTest, AChainReceivesAndForwardsInOneGroup) {
  const std::vector<StageSchedule> stages = stages_along(kChain);
  ASSERT_EQ(fault(stages), "");
  EXPECT_FALSE(goes_wrong(stages));
  ASSERT_GT(stages[1].stages.size(), 3U);
  for (std::size_t s = 1; s + 1 < stages[1].stages.size(); ++s) {
    EXPECT_EQ(stages[1].sends(s).size(), 1U);
    EXPECT_EQ(stages[1].receives(s).size(), 1U);
  }
}

/// What passes through leaves in the round in which it came, from the slot that it came to.
TEST(StagesTest, WhatPassesThroughLeavesFromItsSlot) {
  const std::vector<StageSchedule> stages = stages_along(kThroughStaging);
  ASSERT_EQ(fault(stages), "");
  EXPECT_FALSE(goes_wrong(stages));
  EXPECT_TRUE(stages[3].all_packs.empty());
  EXPECT_TRUE(stages[3].all_unpacks.empty());
  ASSERT_FALSE(stages[3].all_sends.empty());
  for (const StepId id : stages[3].all_sends) EXPECT_GE(stages[3].slot_of(true, id), 0);
}

/// Neighbouring stages have slots of their own where the budget allows: then no pack waits for the exchange before it,
/// and no exchange for the unpack before it.
TEST(StagesTest, NeighbouringStagesOverlap) {
  const Plan plan = in_windows(kChain);
  for (const StageSchedule& of_rank : stages_of(plan, staged(plan), kLimits)) {
    for (std::size_t s = 1; s < of_rank.stages.size(); ++s) {
      const auto before = static_cast<std::int32_t>(s) - 1;
      EXPECT_LT(of_rank.stages[s].exchange.unpack, before);
      if (of_rank.schedule.rank == 0) {
        EXPECT_LT(of_rank.stages[s].pack.exchange, before);
      }
    }
  }
}

TEST(StagesTest, BothEndsMustHaveAWindowInOneStage) {
  std::vector<StageSchedule> stages = stages_along(kThroughStaging);
  // As if the part of a window were not the same on all of its hops.
  for (Stage& stage : stages[2].stages) stage.key.part = 1;
  EXPECT_THAT(fault(stages), HasSubstr("rank 1: 0 of"));
  stages = stages_along(kThroughStaging);
  std::swap(stages[2].all_receives[0], stages[2].all_receives[1]);
  std::swap(stages[2].all_unpacks[0], stages[2].all_unpacks[1]);
  std::swap(stages[2].in_slots[kRelayLane][0], stages[2].in_slots[kRelayLane][1]);
  EXPECT_THAT(fault(stages), HasSubstr("is not what that rank expects next"));
  EXPECT_TRUE(goes_wrong(stages));
}

/// Forwards in the stage of their feeds, as if the step did not count in the key.
TEST(StagesTest, AFeedMustBeInALowerStage) {
  std::vector<StageSchedule> stages = stages_along(kThroughStaging);
  StageSchedule& relay = stages[3];
  ASSERT_EQ(relay.receives(0).size(), 1U);
  ASSERT_EQ(relay.sends(1).size(), 1U);
  relay.stages[0].sends_end = 1;
  relay.stages[1].sends_end = 1;
  EXPECT_THAT(fault(stages), HasSubstr("rank 3: window 0 of route 0, hop 1 is given on before it comes"));
  EXPECT_TRUE(goes_wrong(stages));
}

/// A slot that is used again one stage too early.
TEST(StagesTest, ASlotMustBeFree) {
  for (const bool is_out : {true, false}) {
    std::vector<StageSchedule> stages = stages_along(kChain);
    StageSchedule& of_rank = stages[is_out ? 0 : 2];
    ASSERT_EQ(fault(stages), "");
    // Three in turn are enough, two are not without the waits for them.
    for (std::int32_t& slot : is_out ? of_rank.out_slots[kFirstLane] : of_rank.in_slots[kRelayLane]) slot %= 1;
    EXPECT_THAT(fault(stages), HasSubstr("takes its slot while the"));
    EXPECT_TRUE(goes_wrong(stages));
  }
}

/// At the last level every message is a group by itself, also those of one window that fans out of one rank.
TEST(StagesTest, TheLastLevelIsOneMessageAtATime) {
  const Plan plan = in_windows({{0, 1}, {0, 2}});
  const StageLimits limits{1, 4096};
  StageLevels last;
  last.of_band.fill(static_cast<std::uint8_t>(kLastLevel));
  std::vector<StageSchedule> stages;
  for (const Schedule& schedule : staged(plan)) stages.push_back(build_stages(plan, schedule, last, limits));
  EXPECT_EQ(check_stages(stages, limits).message(), "");
}

/// A stage takes half of the slots at most, so that its neighbours have some: a chain's takes one to receive in and one
/// to send from, so it is cut where there are three, and not where there are four.
TEST(StagesTest, AStageLeavesRoomForItsNeighbours) {
  const Plan plan = in_windows(kChain);
  const std::vector<Schedule> schedules = staged(plan);
  EXPECT_EQ(stages_of(plan, schedules, {0, 1024})[1].levels.of_band[1], kRoundLevel);
  EXPECT_GT(stages_of(plan, schedules, {0, 768})[1].levels.of_band[1], kRoundLevel);
}

TEST(StagesTest, LimitsMustBeKept) {
  const Plan plan = in_windows(kChain);
  std::vector<StageSchedule> stages = stages_of(plan, staged(plan), kLimits);
  EXPECT_THAT(check_stages(stages, {1, 4096}).message(), HasSubstr("2 operations in stage 1, of 1"));
  EXPECT_THAT(check_stages(stages, {6, 512}).message(), HasSubstr("bytes of staging, of 512"));
  ++stages[2].in_slots[kRelayLane][0];
  stages[2].num_slots = 1;
  EXPECT_THAT(fault(stages), HasSubstr("has slot 1 of 1"));
}

/// What is given on out of a tensor must wait until it is there: after the unpack, if it was staged.
TEST(StagesTest, WhatIsGivenOnMustHaveCome) {
  std::vector<StageSchedule> stages = stages_along(kChain);
  for (Stage& stage : stages[1].stages) stage.pack.unpack = -1;
  EXPECT_THAT(fault(stages), HasSubstr("is given on without waiting for the unpack of stage 0"));
  EXPECT_TRUE(goes_wrong(stages));
  const Plan plan = in_windows(kChain);
  stages = stages_of(plan, schedules_of(plan, 100), kLimits);
  ASSERT_EQ(fault(stages), "");
  ASSERT_FALSE(stages[1].all_lends.empty());
  for (Stage& stage : stages[1].stages) stage.lend.read = -1;
  EXPECT_THAT(fault(stages), HasSubstr("is given on without waiting for the read of stage 0"));
  EXPECT_TRUE(goes_wrong(stages));
}

TEST(StagesTest, NothingMayWaitForALaterStage) {
  std::vector<StageSchedule> stages = stages_along(kChain);
  stages[1].stages[1].exchange.unpack = 1;
  EXPECT_THAT(fault(stages), HasSubstr("the exchange of stage 1 waits for the unpack 1"));
  EXPECT_TRUE(goes_wrong(stages));
}

TEST(StagesTest, AWindowMustBeInAStage) {
  std::vector<StageSchedule> stages = stages_along(kChain);
  --stages[2].stages.back().receives_end;
  --stages[2].stages.back().unpacks_end;
  EXPECT_THAT(fault(stages), HasSubstr("rank 2: a window is in no stage"));
  EXPECT_TRUE(goes_wrong(stages));
  stages = stages_along(kChain);
  stages[2].stages[0].unpacks_end = 0;
  EXPECT_THAT(fault(stages), HasSubstr("stage 0 does not unpack what it should"));
}

/// Tensors in groups of their own, one of which may be open at a time.
std::vector<StageSchedule> stages_of_groups(std::int64_t open_groups) {
  auto src = std::make_shared<ModelLayout>(3);
  auto dst = std::make_shared<ModelLayout>(3);
  for (std::int32_t t = 0; t < 4; ++t) {
    for (ModelLayout* side : {src.get(), dst.get()}) {
      Placement placement;
      placement.mesh = side == src.get() ? *Mesh::create({{"r", 1}}, {t % 2}) : *Mesh::create({{"r", 1}}, {2});
      placement.dims.resize(1);
      const std::string name = "t" + std::to_string(t);
      placement.buffer = side->add_buffer(name, DType::kF32);
      EXPECT_TRUE(side->place(*side->add_tensor({name, DType::kF32, {600}, t}), placement).ok());
    }
  }
  PlanOptions options;
  options.staging_bytes = kLimits.staging_bytes;
  options.open_groups = open_groups;
  const Plan plan = *create_plan(src, dst, options);
  return stages_of(plan, staged(plan), kLimits);
}

TEST(StagesTest, GroupsMustNotOpenTooEarly) {
  std::vector<StageSchedule> stages = stages_of_groups(1);
  ASSERT_EQ(fault(stages), "");
  EXPECT_FALSE(goes_wrong(stages));
  for (Stage& stage : stages[2].stages) stage.unpack.group = -1;
  EXPECT_THAT(fault(stages), HasSubstr("comes before the group at position"));
  // Unpacks follow each other, so it takes a copy within the rank to see this one in a run: only the proof finds it.
  stages = stages_of_groups(1);
  ++stages[2].groups[1].unpack;
  EXPECT_THAT(fault(stages), HasSubstr("the group at position 1 needs something else"));
  stages = stages_of_groups(1);
  stages[2].groups.back().unpack = 0;
  EXPECT_THAT(fault(stages), HasSubstr("the group at position 3 needs something else"));
}

/// Sixteen ranks, each with some tensors for others: messages of uneven numbers in all directions.
Plan uneven_exchange() {
  constexpr std::int32_t kNumRanks = 16;
  auto src = std::make_shared<ModelLayout>(kNumRanks);
  auto dst = std::make_shared<ModelLayout>(kNumRanks);
  std::mt19937 random(1);
  for (std::int32_t t = 0; t < 200; ++t) {
    const std::string name = "t" + std::to_string(t);
    const std::int64_t size = 40 << random() % 5U;
    for (ModelLayout* side : {src.get(), dst.get()}) {
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 1}}, {static_cast<std::int32_t>(random() % kNumRanks)});
      placement.dims.resize(1);
      placement.buffer = side->add_buffer(name, DType::kF32);
      EXPECT_TRUE(side->place(*side->add_tensor({name, DType::kF32, {size}, 0}), placement).ok());
    }
  }
  Plan plan = *create_plan(src, dst, {1 << 20});
  plan.window_bytes = 256;
  return plan;
}

/// Why there is a limit: without one, kernels that begin again at the first round hang, and only those.
TEST(StagesTest, GroupsOfSeveralKernelsHangWhereRoundsRestart) {
  const Plan plan = uneven_exchange();
  const std::vector<Schedule> schedules = staged(plan);
  const StageLimits none = {0, 1 << 20};
  const StageLimits six = {6, none.staging_bytes};
  std::vector<StageSchedule> large;
  for (const Schedule& schedule : schedules) large.push_back(build_stages(plan, schedule, {}, none));
  ASSERT_EQ(check_stages(large, none).message(), "");
  EXPECT_THAT(check_stages(large, six).message(), HasSubstr("operations in stage"));
  const std::vector<StageSchedule> small = stages_of(plan, schedules, six);
  ASSERT_EQ(check_stages(small, six).message(), "");
  int num_hung = 0;
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    const std::string hung = play(large, {true, 6}, seed);
    if (hung.rfind("stuck", 0) == 0) ++num_hung;
    EXPECT_EQ(play(large, {false, 6}, seed), "");
    EXPECT_EQ(play(small, {true, 6}, seed), "");
    EXPECT_EQ(play(small, {false, 6}, seed), "");
  }
  EXPECT_GT(num_hung, 0);
}

}  // namespace
}  // namespace reshard
