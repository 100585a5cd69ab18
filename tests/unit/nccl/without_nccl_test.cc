// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The room as it is in a build without NCCL's header, compiled into this program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "src/transport/local.h"
#include "src/transport/nccl/comm.h"

namespace reshard {
namespace {

TEST(WithoutNcclTest, LoadingSaysWhatTheBuildLacks) {
  const auto library = NcclLibrary::load("");
  EXPECT_EQ(library.status().code(), RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_THAT(library.status().message(), testing::ContainsRegex("this build of reshard has no NCCL.*2.28 or newer"));
}

TEST(WithoutNcclTest, EveryRankHearsThatThereIsNoCommunicator) {
  auto world = create_local_transports(2).take();
  std::vector<Status> answers(2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < answers.size(); ++r) {
    threads.emplace_back([&, r] {
      // What the caller found wrong comes first.
      const Status arguments = r == 0 ? invalid_argument("a bad buffer") : Status();
      answers[r] = NcclComm::create(world[r].get(), 0, {}, Deadline(60'000'000), arguments).status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers[0].code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(answers[1].code(), RESHARD_ERR_NOT_SUPPORTED);
}

}  // namespace
}  // namespace reshard
