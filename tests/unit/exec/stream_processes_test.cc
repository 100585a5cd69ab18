// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs in streams between processes, one of which dies: the others know it, and soon, though NCCL waits for ever.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "tests/unit/exec/stream_jobs.h"
#include "tests/unit/transport/ranks.h"

namespace reshard {
namespace {

using test::Kind;
using test::Verdict;
using testing::StreamJob;
using testing::StreamRank;

constexpr std::int32_t kNumRanks = 3;
constexpr std::int32_t kMortal = 1;

/// Rank 1 dies once all have bound, and done one run; before its part of the second, or with all of it queued. What was
/// queued may be done by then: a run that ends well brought its values, and the next one does not.
Verdict die(Transport& t, const StreamJob& job, bool is_mappable, bool is_queued) {
  StreamRank rank(job, &t, is_mappable);
  RESHARD_REQUIRE_OK(rank.bind());
  RESHARD_REQUIRE_HOLDS(rank.run(1));
  rank.fill(2);
  RESHARD_REQUIRE_HOLDS(test::barrier(t));
  if (t.rank() == kMortal) {
    if (is_queued) RESHARD_REQUIRE_OK(rank.driver().start());
    kill(getpid(), SIGKILL);
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto run = [&] {
    Status status = rank.driver().start();
    return status.ok() ? rank.driver().finish(Deadline(test::kPatienceUs)) : status;
  };
  Status status = run();
  if (status.ok() && is_queued) {
    RESHARD_REQUIRE_HOLDS(rank.dst.check(2));
    status = run();
  }
  // Far above what it takes: the cores are shared.
  RESHARD_REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(15));
  const bool is_known = status.code() == RESHARD_ERR_PEER_FAILED || status.code() == RESHARD_ERR_TRANSPORT;
  if (!is_known) return "the run ended with: " + status.message();
  return {};
}

class StreamProcessesTest : public ::testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(StreamProcessesTest, ADeathEndsTheRunOfAllOthers) {
  const StreamJob job = testing::rows_to_columns(kNumRanks, 2, {1 << 12});
  const auto scenario = [&](Transport& t) { return die(t, job, std::get<0>(GetParam()), std::get<1>(GetParam())); };
  EXPECT_EQ(test::run_ranks(Kind::kUcx, kNumRanks, scenario, {kMortal}), "");
}

INSTANTIATE_TEST_SUITE_P(Paths, StreamProcessesTest, ::testing::Combine(::testing::Bool(), ::testing::Bool()),
                         [](const auto& path) {
                           return std::string(std::get<0>(path.param) ? "Mapped" : "Messages") +
                                  (std::get<1>(path.param) ? "Queued" : "Before");
                         });

}  // namespace
}  // namespace reshard
