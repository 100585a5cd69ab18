// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using testing::add_sharded;
using ::testing::HasSubstr;

struct Sides {
  std::shared_ptr<ModelLayout> src = std::make_shared<ModelLayout>(2);
  std::shared_ptr<ModelLayout> dst = std::make_shared<ModelLayout>(2);
  Status plan(const PlanOptions& options = PlanOptions()) const {
    Result<Plan> made = create_plan(src, dst, options);
    return made.ok() ? Status() : made.take_status();
  }
};

void expect_error(const Status& status, reshard_status_t code, const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), code) << status.message();
  for (const std::string& word : words) EXPECT_THAT(status.message(), HasSubstr(word));
}

TEST(PlanErrorTest, ShapesThatDifferAreNamed) {
  Sides sides;
  add_sharded(sides.src.get(), {"w", DType::kF32, {4, 5}, 0}, 0, 1, 1);
  add_sharded(sides.dst.get(), {"w", DType::kF32, {5, 4}, 0}, 1, 1, 1);
  expect_error(sides.plan(), RESHARD_ERR_LAYOUT_MISMATCH, {"\"w\"", "[4, 5]", "[5, 4]"});
}

TEST(PlanErrorTest, NamesOnOneSideOnlyAreNamed) {
  Sides sides;
  add_sharded(sides.src.get(), {"a", DType::kF32, {4}, 0}, 0, 1, 1);
  add_sharded(sides.dst.get(), {"b", DType::kF32, {4}, 0}, 1, 1, 1);
  expect_error(sides.plan(), RESHARD_ERR_LAYOUT_MISMATCH, {"\"a\"", "not at the destination"});
}

TEST(PlanErrorTest, DtypesWithoutConversionAreNamed) {
  Sides sides;
  add_sharded(sides.src.get(), {"w", DType::kI32, {4}, 0}, 0, 1, 1);
  add_sharded(sides.dst.get(), {"w", DType::kF32, {4}, 0}, 1, 1, 1);
  expect_error(sides.plan(), RESHARD_ERR_LAYOUT_MISMATCH, {"\"w\"", "I32", "F32"});
}

TEST(PlanErrorTest, RankCountsThatDifferAreNamed) {
  Sides sides;
  sides.dst = std::make_shared<ModelLayout>(3);
  add_sharded(sides.src.get(), {"w", DType::kF32, {4}, 0}, 0, 1, 1);
  add_sharded(sides.dst.get(), {"w", DType::kF32, {4}, 0}, 1, 1, 1);
  expect_error(sides.plan(), RESHARD_ERR_LAYOUT_MISMATCH, {"2 ranks", "3"});
}

TEST(PlanErrorTest, AnElementNoSourceHoldsIsNamedWithBoxAndRank) {
  Sides sides;
  const std::int64_t w = *sides.src->add_tensor({"w", DType::kF32, {4, 6}, 0});
  const std::int64_t buffer = *sides.src->add_rank_buffer(0, "w", 4 * 6 * 4);
  ASSERT_TRUE(sides.src->add_flat_range(0, w, 0, 20, buffer, 0).ok());
  add_sharded(sides.dst.get(), {"w", DType::kF32, {4, 6}, 0}, 1, 1, 1);
  expect_error(sides.plan(), RESHARD_ERR_NOT_COVERED, {"\"w\"", "[3:4, 2:6]", "rank 1"});
}

TEST(PlanErrorTest, StagingBelowOneElementEachWayIsRefused) {
  Sides sides;
  add_sharded(sides.src.get(), {"w", DType::kF32, {4}, 0}, 0, 1, 1);
  add_sharded(sides.dst.get(), {"w", DType::kF32, {4}, 0}, 1, 1, 1);
  for (const std::int64_t budget : {-1, 0, 3, 7}) {
    expect_error(sides.plan({budget}), RESHARD_ERR_STAGING_TOO_SMALL, {std::to_string(budget), "at least 8"});
  }
  EXPECT_TRUE(sides.plan({8}).ok());
}

/// One destination buffer of rank 1 with two blocks of two rows each, the second `offset` bytes in.
Status plan_two_blocks(std::int64_t offset, std::int64_t row_stride) {
  Sides sides;
  const Tensor tensor{"w", DType::kF32, {4, 3}, 0};
  add_sharded(sides.src.get(), tensor, 0, 1, 1);
  Block block;
  block.tensor = *sides.dst->add_tensor(tensor);
  block.buffer = *sides.dst->add_rank_buffer(1, "dst", 1000);
  block.box = whole_box({2, 3});
  block.strides_bytes[0] = row_stride;
  block.strides_bytes[1] = 4;
  EXPECT_TRUE(sides.dst->add_block(1, block).ok());
  block.box.begin[0] += 2;
  block.box.end[0] += 2;
  block.offset_bytes = offset;
  EXPECT_TRUE(sides.dst->add_block(1, block).ok());
  return sides.plan();
}

TEST(PlanErrorTest, DestinationBlocksThatOverlapAreRefusedExactly) {
  EXPECT_TRUE(plan_two_blocks(24, 12).ok());
  EXPECT_TRUE(plan_two_blocks(12, 24).ok());  // rows of the two interleave
  expect_error(plan_two_blocks(11, 24), RESHARD_ERR_INVALID_ARGUMENT, {"overlap", "byte 11", "\"dst\"", "rank 1"});
  expect_error(plan_two_blocks(20, 12), RESHARD_ERR_INVALID_ARGUMENT, {"overlap", "byte 20"});
  // By a single byte: of one run and the next, and of rows that interleave.
  expect_error(plan_two_blocks(23, 12), RESHARD_ERR_INVALID_ARGUMENT, {"overlap", "byte 23"});
  expect_error(plan_two_blocks(13, 24), RESHARD_ERR_INVALID_ARGUMENT, {"overlap", "byte 24"});
  EXPECT_TRUE(plan_two_blocks(24, 24 + 24).ok());
}

TEST(PlanErrorTest, ABlockThatOverlapsItselfIsRefused) {
  expect_error(plan_two_blocks(100, 8), RESHARD_ERR_INVALID_ARGUMENT, {"overlap"});
  expect_error(plan_two_blocks(100, 0), RESHARD_ERR_INVALID_ARGUMENT, {"overlap"});
}

}  // namespace
}  // namespace reshard
