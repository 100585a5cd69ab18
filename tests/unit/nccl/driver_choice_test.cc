// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/driver_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "src/transport/local.h"

namespace reshard {
namespace {

using testing::HasSubstr;

constexpr int kRanks = 3;

/// What every rank hears, where `change` has had its way with offers that are good for NCCL.
std::vector<Result<DriverChoice>> choose_all(const std::function<void(std::vector<DriverOffer>*)>& change) {
  std::vector<DriverOffer> offers(kRanks);
  for (std::size_t r = 0; r < offers.size(); ++r) {
    offers[r].nccl.version = 22809;
    offers[r].nccl.device_uuid = "device " + std::to_string(r);
  }
  change(&offers);
  auto world = create_local_transports(kRanks).take();
  std::vector<Result<DriverChoice>> answers(kRanks, Status(RESHARD_ERR_INTERNAL, "not asked"));
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < offers.size(); ++r) {
    threads.emplace_back([&, r] { answers[r] = choose_driver(world[r].get(), offers[r], Deadline(60'000'000)); });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

void expect_choice(bool is_nccl, const char* reason, const std::function<void(std::vector<DriverOffer>*)>& change) {
  for (const auto& answer : choose_all(change)) {
    ASSERT_TRUE(answer.ok()) << answer.status().message();
    EXPECT_EQ(answer->is_nccl, is_nccl) << answer->reason;
    EXPECT_THAT(answer->reason, HasSubstr(reason));
  }
}

TEST(DriverChoiceTest, NcclWhereAllHaveItAndMessagesWouldGoOverTheHost) {
  expect_choice(true, "would else go through memory of the host", [](auto*) {});
}

TEST(DriverChoiceTest, NoNcclWhereMessagesGoWellWithoutIt) {
  expect_choice(false, "moves device memory itself",
                [](auto* offers) { offers->at(1).messages = "the comm moves device memory itself"; });
}

TEST(DriverChoiceTest, NoNcclWhereOneRankCannot) {
  expect_choice(false, "no NCCL: on rank 2: not found", [](auto* offers) {
    offers->at(2).nccl.usable = {RESHARD_ERR_NOT_SUPPORTED, "not found"};
  });
  expect_choice(false, "no NCCL: ranks 0 and 1 are on one device",
                [](auto* offers) { offers->at(1).nccl.device_uuid = offers->at(0).nccl.device_uuid; });
  expect_choice(false, "no NCCL: rank 0 has NCCL 2.28.9 and rank 1 NCCL 2.30.0",
                [](auto* offers) { offers->at(1).nccl.version = 23000; });
}

TEST(DriverChoiceTest, WhoWishesDecidesForThoseWhoDoNot) {
  expect_choice(false, "rank 1 asked for it", [](auto* offers) { offers->at(1).wish = DriverWish::kPoll; });
  // Also where it will not do: the binding then fails with the reason, and does not quietly do something else.
  expect_choice(true, "rank 2 asked for it", [](auto* offers) {
    offers->at(2).wish = DriverWish::kNccl;
    offers->at(0).nccl.usable = {RESHARD_ERR_NOT_SUPPORTED, "not found"};
  });
}

TEST(DriverChoiceTest, WishesThatContradictAreEveryRanksError) {
  const auto answers = choose_all([](auto* offers) {
    offers->at(0).wish = DriverWish::kPoll;
    offers->at(2).wish = DriverWish::kNccl;
  });
  for (const auto& answer : answers) {
    EXPECT_EQ(answer.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(answer.status().message(),
                HasSubstr("rank 2 wants the driver over NCCL, and rank 0 the one that polls"));
  }
}

}  // namespace
}  // namespace reshard
