// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace reshard {
namespace {

Status timeout() {
  return {RESHARD_ERR_TIMEOUT, "rank 3 is late"};
}

Result<int> half(int number) {
  if (number % 2 != 0) return invalid_argument(std::to_string(number) + " is odd");
  return number / 2;
}

Result<int> quarter(int number) {
  RESHARD_TRY(const int halved, half(number));
  RESHARD_TRY(const int quartered, half(halved));
  return quartered;
}

Status forward(Status inner, bool* reached_end) {
  RESHARD_TRY(std::move(inner));
  *reached_end = true;
  return {};
}

TEST(Status, DefaultIsOkWithoutMessage) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().code(), RESHARD_OK);
  EXPECT_EQ(Status().message(), "");
}

TEST(Status, ContextGoesInFrontOfAFailureOnly) {
  const Status failed = timeout().with_context("group 4");
  EXPECT_EQ(failed.code(), RESHARD_ERR_TIMEOUT);
  EXPECT_EQ(failed.message(), "group 4: rank 3 is late");
  EXPECT_EQ(Status().with_context("group 4").message(), "");
}

TEST(Result, HoldsAValueOrTheReason) {
  EXPECT_EQ(*half(8), 4);
  EXPECT_FALSE(half(7).ok());
  EXPECT_EQ(half(7).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(half(7).status().message(), "7 is odd");
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = result.take();
  EXPECT_EQ(*taken, 5);
}

TEST(Try, ReturnsTheFirstFailureAndElseGoesOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).status().message(), "3 is odd");
  bool reached_end = false;
  EXPECT_EQ(forward(timeout(), &reached_end).message(), "rank 3 is late");
  EXPECT_FALSE(reached_end);
  EXPECT_TRUE(forward({}, &reached_end).ok());
  EXPECT_TRUE(reached_end);
}

}  // namespace
}  // namespace reshard
