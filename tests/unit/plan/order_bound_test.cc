// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include "src/plan/estimate.h"
#include "src/plan/report/simulate_plan.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using testing::hand_machine;
using testing::kMega;

/// Three stages of one group each, of 2 MB, to one rank behind a port of 8 MB/s, or `num_dst` such ranks, each a node.
Plan stages(std::int64_t open_groups, GroupOrder order, std::int32_t num_dst = 1) {
  std::vector<testing::HandRank> ranks = {{0}, {1}, {2}};
  for (std::int32_t i = 0; i < num_dst; ++i) ranks.push_back({3 + i, 0, 8 * kMega});
  PlanOptions options = testing::options_for(hand_machine(ranks));
  options.open_groups = open_groups;
  options.order = order;
  auto src = std::make_shared<ModelLayout>(3 + num_dst);
  auto dst = std::make_shared<ModelLayout>(3 + num_dst);
  for (std::int32_t stage = 0; stage < 3; ++stage) {
    const Tensor tensor{"t" + std::to_string(stage), DType::kBF16, {1000, 1000}, stage};
    testing::add_sharded(src.get(), tensor, stage, 1, 1);
    testing::add_sharded(dst.get(), tensor, 3, num_dst, 1);
  }
  Result<Plan> plan = create_plan(src, dst, options);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

double order_bound_of(const Plan& plan) {
  const Result<Estimate> found = estimate(plan);
  EXPECT_TRUE(found.ok()) << found.status().message();
  for (const Bound& bound : found->bounds) {
    if (bound.name == "LB11 order") return bound.seconds;
  }
  return -1;
}

TEST(OrderBoundTest, OneGroupAtATimeKeepsOneStageBusy) {
  const Plan plan = stages(1, GroupOrder::kFixed);
  EXPECT_DOUBLE_EQ(order_bound_of(plan), 3 * 2.0);
  EXPECT_NEAR(simulate_plan(plan, 0)->seconds, 6.0, 0.1);
}

TEST(OrderBoundTest, AWindowOfGroupsLetsItsStagesSendTogether) {
  // Beside group 1 any stage may send; beside 0 and 2 one other: 2 MB at 2 MB/s, at 3 MB/s, at 2 MB/s.
  EXPECT_DOUBLE_EQ(order_bound_of(stages(2, GroupOrder::kFixed)), 1.0 + 2.0 / 3 + 1.0);
  EXPECT_DOUBLE_EQ(order_bound_of(stages(3, GroupOrder::kFixed)), 3 * 2.0 / 3);
}

TEST(OrderBoundTest, IsOfAllThatNeedTheSame) {
  const Plan plan = stages(1, GroupOrder::kFixed, 3);
  EXPECT_DOUBLE_EQ(order_bound_of(plan), 3 * 2.0);
}

TEST(OrderBoundTest, GroupsThatARankTakesNothingOfLeaveRoomForOthers) {
  // 1 MB each: group 0 from rank 0 and group 2 from rank 1 to rank 2, between them group 1 to rank 3.
  PlanOptions options = testing::options_for(hand_machine({{0}, {1}, {2, 0, 8 * kMega}, {3, 0, 8 * kMega}}));
  options.open_groups = 2;
  options.order = GroupOrder::kFixed;
  auto src = std::make_shared<ModelLayout>(4);
  auto dst = std::make_shared<ModelLayout>(4);
  for (std::int32_t group = 0; group < 3; ++group) {
    const Tensor tensor{"t" + std::to_string(group), DType::kU8, {kMega}, group};
    testing::add_sharded(src.get(), tensor, group == 2 ? 1 : 0, 1, 1);
    testing::add_sharded(dst.get(), tensor, group == 1 ? 3 : 2, 1, 1);
  }
  const Result<Plan> plan = create_plan(src, dst, options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_DOUBLE_EQ(order_bound_of(*plan), 2 * 1.0 / 2);  // both stages at once: it has no group 1 to wait for
}

TEST(OrderBoundTest, IsNothingWhereOrdersMayRotateAndNotThereWithoutALimit) {
  EXPECT_EQ(order_bound_of(stages(1, GroupOrder::kRotated)), 0);
  EXPECT_EQ(order_bound_of(stages(0, GroupOrder::kFixed)), -1);
}

}  // namespace
}  // namespace reshard
