// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include "src/plan/report/report.h"
#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using testing::plan_tp;

struct PlanShape {
  std::int64_t src_replicas, src_shards, dst_replicas, dst_shards, messages, senders;
};

class PlanShapeTest : public ::testing::TestWithParam<PlanShape> {};

TEST_P(PlanShapeTest, HasTheFewestMessagesFromBalancedSenders) {
  const PlanShape& shape = GetParam();
  const Result<Plan> plan =
      plan_tp({240, 241}, shape.src_replicas, shape.src_shards, shape.dst_replicas, shape.dst_shards);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const PlanStats stats = count_plan(*plan);
  EXPECT_EQ(stats.num_messages, shape.messages);
  EXPECT_EQ(stats.senders.num_used, shape.senders);
  EXPECT_LE(static_cast<double>(stats.senders.max_bytes), 1.05 * stats.senders.mean_bytes());
  EXPECT_EQ(stats.receivers.max_bytes, stats.receivers.bound_bytes);
}

INSTANTIATE_TEST_SUITE_P(Worked, PlanShapeTest,
                         ::testing::Values(PlanShape{1, 3, 1, 4, 6, 3},    // a + b - gcd pieces
                                           PlanShape{1, 8, 1, 6, 12, 8},   //
                                           PlanShape{8, 1, 16, 1, 16, 8},  // replicas share the receivers: two each
                                           PlanShape{4, 2, 1, 8, 8, 8},    // each receiver from a replica of its own
                                           PlanShape{8, 1, 1, 1, 8, 8},  // one receiver: every replica sends an eighth
                                           PlanShape{1, 1, 4, 2, 8, 1}),
                         [](const ::testing::TestParamInfo<PlanShape>& param_info) {
                           const PlanShape& s = param_info.param;
                           return "Dp" + std::to_string(s.src_replicas) + "Tp" + std::to_string(s.src_shards) + "ToDp" +
                                  std::to_string(s.dst_replicas) + "Tp" + std::to_string(s.dst_shards);
                         });

TEST(PlanTest, CountsBeyondTwoToThe31Elements) {
  const Result<Plan> plan = plan_tp({std::int64_t{3} << 13, 1 << 20, 7}, 1, 3, 1, 4);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const PlanStats stats = count_plan(*plan);
  EXPECT_EQ(stats.bytes_crossed, (std::int64_t{3} << 33) * 7 * 2);
  EXPECT_EQ(stats.receivers.max_bytes, (std::int64_t{3} << 33) * 7 * 2 / 4);
}

TEST(PlanTest, WhatARankHoldsItselfIsNotSent) {
  auto src = std::make_shared<ModelLayout>(4);
  auto dst = std::make_shared<ModelLayout>(4);
  testing::add_sharded(src.get(), {"w", DType::kF32, {8, 3}, 0}, 0, 2, 2);
  testing::add_sharded(dst.get(), {"w", DType::kF32, {8, 3}, 0}, 0, 1, 4);
  const Result<Plan> plan = create_plan(src, dst, {});
  ASSERT_TRUE(plan.ok());
  // Rank 0 holds rows 0..3 and wants 0..1; rank 1 holds 4..7 and wants 2..3; rank 2: 0..3, 4..5; rank 3: 4..7, 6..7.
  const PlanStats stats = count_plan(*plan);
  EXPECT_EQ(stats.bytes_local, 2 * 2 * 3 * 4);
  EXPECT_EQ(stats.bytes_crossed, 2 * 2 * 3 * 4);
}

TEST(PlanTest, GroupsAscendInWhateverOrderTensorsCome) {
  auto src = std::make_shared<ModelLayout>(2);
  auto dst = std::make_shared<ModelLayout>(2);
  for (const std::int64_t group : {7, -2, 7, 0}) {
    const Tensor tensor{"t" + std::to_string(src->tensors().size()), DType::kU8, {4}, group};
    testing::add_sharded(src.get(), tensor, 0, 1, 1);
    testing::add_sharded(dst.get(), tensor, 1, 1, 1);
  }
  const Result<Plan> plan = create_plan(src, dst, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->groups, (std::vector<std::int64_t>{-2, 0, 7}));
  std::vector<std::int64_t> order;
  for (const PlanTensor& tensor : plan->tensors) order.push_back(tensor.dst);
  EXPECT_EQ(order, (std::vector<std::int64_t>{1, 3, 0, 2}));
}

}  // namespace
}  // namespace reshard
