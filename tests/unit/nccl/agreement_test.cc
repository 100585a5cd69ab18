// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the ranks say to each other before NCCL is called, on ranks that are threads.
#include "src/transport/nccl/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "src/transport/local.h"
#include "src/transport/vote.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t kPatienceUs = 60'000'000;
constexpr int kRanks = 3;

/// What agree() says on every rank, where `spoil` has had its way with the offers.
std::vector<Result<std::vector<std::byte>>> agree_all(const std::function<void(std::vector<NcclOffer>*)>& spoil) {
  std::vector<NcclOffer> offers(kRanks);
  for (std::size_t r = 0; r < offers.size(); ++r) {
    offers[r].version = 22809;
    offers[r].device_uuid = "device " + std::to_string(r);
  }
  offers[0].id = {std::byte{1}, std::byte{2}};
  spoil(&offers);
  auto world = create_local_transports(kRanks).take();
  std::vector<Result<std::vector<std::byte>>> answers(kRanks, Status(RESHARD_ERR_INTERNAL, "not asked"));
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < offers.size(); ++r) {
    threads.emplace_back([&, r] { answers[r] = agree(world[r].get(), offers[r], Deadline(kPatienceUs)); });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

/// All have the same code; the text of the last rank, which is none of those that are spoilt.
std::string refusal_of_all(reshard_status_t code, const std::function<void(std::vector<NcclOffer>*)>& spoil) {
  const auto answers = agree_all(spoil);
  for (const auto& answer : answers) EXPECT_EQ(answer.status().code(), code) << answer.status().message();
  return answers.back().status().message();
}

TEST(NcclAgreementTest, AllGetTheIdOfRank0) {
  for (const auto& answer : agree_all([](auto*) {})) {
    ASSERT_TRUE(answer.ok()) << answer.status().message();
    EXPECT_THAT(*answer, testing::ElementsAre(std::byte{1}, std::byte{2}));
  }
}

TEST(NcclAgreementTest, ARankThatCannotTakePartIsEveryRanksError) {
  EXPECT_THAT(refusal_of_all(RESHARD_ERR_NOT_SUPPORTED,
                             [](auto* offers) {
                               offers->at(1).usable = {RESHARD_ERR_NOT_SUPPORTED, "no library"};
                             }),
              HasSubstr("on rank 1: no library"));
}

TEST(NcclAgreementTest, VersionsThatDifferAreRefused) {
  EXPECT_THAT(refusal_of_all(RESHARD_ERR_PLAN_MISMATCH, [](auto* offers) { offers->at(1).version = 22907; }),
              AllOf(HasSubstr("rank 0 has NCCL 2.28.9"), HasSubstr("rank 1 NCCL 2.29.7")));
}

TEST(NcclAgreementTest, WishesThatDifferAreRefusedWithTheirValues) {
  const std::vector<std::function<void(NcclOffer*)>> differences = {
      [](NcclOffer* offer) { offer->max_ctas = 8; }, [](NcclOffer* offer) { offer->traffic_class = 8; },
      [](NcclOffer* offer) { offer->is_given = true; }, [](NcclOffer* offer) { offer->is_capturable = true; }};
  for (const auto& differ : differences) {
    EXPECT_THAT(refusal_of_all(RESHARD_ERR_INVALID_ARGUMENT, [&](auto* offers) { differ(&offers->at(1)); }),
                AllOf(HasSubstr("rank 0 wants its own communicator, capturable 0, max_ctas 0, traffic_class -1"),
                      HasSubstr("give the same on all ranks")));
  }
}

TEST(NcclAgreementTest, RanksOnOneDeviceNeedAVersionThatTakesThem) {
  const auto share = [](std::vector<NcclOffer>* offers) { offers->at(1).device_uuid = offers->at(0).device_uuid; };
  EXPECT_THAT(refusal_of_all(RESHARD_ERR_NOT_SUPPORTED, share),
              AllOf(HasSubstr("ranks 0 and 1 are on one device (device 0)"), HasSubstr("NCCL 2.28.9"),
                    HasSubstr("2.30 or newer")));
  const auto share_with_new = [&](std::vector<NcclOffer>* offers) {
    share(offers);
    for (NcclOffer& offer : *offers) offer.version = 23000;
  };
  for (const auto& answer : agree_all(share_with_new)) EXPECT_TRUE(answer.ok()) << answer.status().message();
  // NCCL took them already.
  const auto share_given = [&](std::vector<NcclOffer>* offers) {
    share(offers);
    for (NcclOffer& offer : *offers) offer.is_given = true;
  };
  for (const auto& answer : agree_all(share_given)) EXPECT_TRUE(answer.ok()) << answer.status().message();
}

TEST(VoteTest, OneRanksFailureIsEveryRanks) {
  auto world = create_local_transports(kRanks).take();
  std::vector<Status> answers(kRanks);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < answers.size(); ++r) {
    threads.emplace_back([&, r] {
      const Status mine = r == 1 ? Status(RESHARD_ERR_OUT_OF_MEMORY, "no room") : Status();
      answers[r] = vote(world[r].get(), mine, Deadline(kPatienceUs));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers[0].message(), "on rank 1: no room");
  EXPECT_EQ(answers[1].message(), "no room");
  for (const Status& answer : answers) EXPECT_EQ(answer.code(), RESHARD_ERR_OUT_OF_MEMORY);
}

}  // namespace
}  // namespace reshard
