// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/report/group_times.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "src/plan/report/details.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using testing::hand_machine;
using testing::kMega;

/// Groups 10, 20 and 30 of 2, 4 and 2 MB from rank 0 to rank 1, each a node, over a port of 1 MB/s; a fourth stays.
Plan three_groups(std::int64_t open_groups) {
  PlanOptions options = testing::options_for(hand_machine({{0}, {1}}));
  options.open_groups = open_groups;
  auto src = std::make_shared<ModelLayout>(2);
  auto dst = std::make_shared<ModelLayout>(2);
  const auto add = [&](const char* name, std::int64_t rows, std::int64_t group, std::int32_t to) {
    const Tensor tensor{name, DType::kBF16, {rows, 1000}, group};
    testing::add_sharded(src.get(), tensor, 0, 1, 1);
    testing::add_sharded(dst.get(), tensor, to, 1, 1);
  };
  add("a", 1000, 10, 1);
  add("b", 2000, 20, 1);
  add("stays", 1000, 25, 0);
  add("c", 1000, 30, 1);
  Result<Plan> plan = create_plan(src, dst, options);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

class GroupTimesTest : public ::testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(OpenGroups, GroupTimesTest, ::testing::Values(0, 1),
                         [](const auto& open) { return "Open" + std::to_string(open.param); });

TEST_P(GroupTimesTest, GroupsFollowEachOtherOverOnePort) {
  const Plan plan = three_groups(GetParam());
  const std::vector<GroupTime> times = group_times(plan, *simulate_plan(plan, 0));
  ASSERT_EQ(times.size(), 3U);
  const std::int64_t bytes[] = {2 * kMega, 4 * kMega, 2 * kMega};
  const std::int32_t groups[] = {0, 1, 3};  // the third stays where it is
  const double ends[] = {2, 6, 8};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(times[i].group, groups[i]);
    EXPECT_EQ(times[i].moved_bytes, bytes[i]);
    EXPECT_NEAR(times[i].start_s, i == 0 ? 0 : ends[i - 1], 0.1);
    EXPECT_NEAR(times[i].finish_s, ends[i], 0.1);
  }
}

TEST_P(GroupTimesTest, TheLastGroupEndsWithTheSimulation) {
  const Plan plan = three_groups(GetParam());
  const Simulation simulation = *simulate_plan(plan, 4);
  EXPECT_DOUBLE_EQ(group_times(plan, simulation).back().finish_s, simulation.seconds);
  const auto details = nlohmann::json::parse(*details_json(plan, simulation, -1));
  ASSERT_EQ(details["groups"].size(), 3U);
  EXPECT_EQ(details["groups"][2]["group"], 30);  // the caller's value
  EXPECT_EQ(details["groups"][2]["bytes"], 2 * kMega);
  EXPECT_DOUBLE_EQ(details["groups"][2]["end"].get<double>(), simulation.seconds);
}

}  // namespace
}  // namespace reshard
