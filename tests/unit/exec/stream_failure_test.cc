// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs in streams that fail: whatever befalls them, every rank has a typed status soon, and can bind anew.
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"
#include "tests/unit/exec/stream_jobs.h"

namespace reshard {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::kShortUs;
using testing::kTimeoutUs;
using testing::rows_to_columns;
using testing::run_ranks;
using testing::StreamJob;
using testing::StreamRank;
using Clock = std::chrono::steady_clock;

constexpr int kInternalError = 3;  // ncclInternalError

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class StreamFailureTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { testing::seed_streams(3); }
  void TearDown() override {
    cuda_double_clear();
    nccl_double_clear();
  }
};
using StreamMessageFailureTest = StreamFailureTest;

INSTANTIATE_TEST_SUITE_P(Paths, StreamFailureTest, ::testing::Bool(),
                         [](const auto& path) { return path.param ? "Mapped" : "Messages"; });

/// That the failed binding does no other run, and a new one does.
std::string recover(StreamRank* rank, bool is_unhurt = false) {
  std::string wrong = testing::try_again_in_vain(&rank->driver(), is_unhurt);
  rank->meet();
  rank->unbind();
  rank->meet();
  const Status bound = rank->bind();
  return wrong + (bound.ok() ? rank->run(8) : bound.message());
}

/// Each kernel of NCCL in a run breaks in turn: all ranks know it well before their deadlines.
TEST_F(StreamMessageFailureTest, AnErrorOfNcclEndsTheRunOnAllRanks) {
  const StreamJob job = rows_to_columns(3, 2, {1 << 12});
  int num_failed = 0;
  for (std::int64_t nth = 1; nth <= 12; ++nth) {
    std::atomic<int> num_failed_now = 0;
    const auto body = [&](Transport* transport) -> std::string {
      StreamRank rank(job, transport, false);
      const Status bound = rank.bind();
      if (!bound.ok()) return bound.message();
      std::string wrong = rank.run(1);
      rank.meet();
      if (rank.number() == 0) nccl_double_break_at(nth, kInternalError);
      rank.meet();
      rank.fill(2);
      const auto begin = Clock::now();
      Status status = rank.driver().start();
      if (status.ok()) status = rank.driver().finish(Deadline(kTimeoutUs));
      // A rank may have had everything before another broke.
      if (!status.ok()) {
        ++num_failed_now;
        EXPECT_THAT(status.code(), AnyOf(RESHARD_ERR_TRANSPORT, RESHARD_ERR_PEER_FAILED, RESHARD_ERR_ABANDONED))
            << status.message();
        EXPECT_LT(seconds_since(begin), kTimeoutUs / 2e6) << status.message();
      }
      rank.meet();
      return num_failed_now == 3 ? wrong + recover(&rank) : wrong;
    };
    EXPECT_EQ(run_ranks(3, body), "") << "kernel " << nth;
    num_failed += num_failed_now;
  }
  EXPECT_GT(num_failed, 18) << "of 36; the last kernels of a run may break after it";
}

/// A message that never arrives: nobody but the deadline tells, and not him who has sent it and got all of his own.
TEST_F(StreamMessageFailureTest, ALostMessageIsATimeout) {
  const StreamJob job = rows_to_columns(2, 1, {1 << 12});
  std::atomic<int> num_failed = 0;
  const auto body = [&](Transport* transport) -> std::string {
    StreamRank rank(job, transport, false);
    const Status bound = rank.bind();
    if (!bound.ok()) return bound.message();
    rank.fill(1);
    rank.meet();
    if (rank.number() == 0) nccl_double_lose_message(2);
    rank.meet();
    Status status = rank.driver().start();
    if (status.ok()) status = rank.driver().finish(Deadline(1'000'000));
    EXPECT_THAT(status.code(), AnyOf(RESHARD_OK, RESHARD_ERR_TIMEOUT, RESHARD_ERR_ABANDONED)) << status.message();
    num_failed += status.ok() ? 0 : 1;
    rank.meet();
    return recover(&rank, status.ok());
  };
  EXPECT_EQ(run_ranks(2, body), "");
  EXPECT_GT(num_failed, 0);
}

/// The machine may be busy, so the best of some attempts counts.
TEST_P(StreamFailureTest, AStatusComesWithinASecondOfItsDeadline) {
  const StreamJob job = rows_to_columns(2, 1, {1 << 12});
  double best_s = 1e9;
  for (int attempt = 0; attempt < 5 && best_s >= 1; ++attempt) {
    const auto body = [&](Transport* transport) -> std::string {
      StreamRank rank(job, transport, GetParam());
      const Status bound = rank.bind();
      if (!bound.ok()) return bound.message();
      rank.fill(1);
      rank.meet();
      if (rank.number() == 0) {
        EXPECT_TRUE(rank.driver().start().ok());
        const auto begin = Clock::now();
        const Status status = rank.driver().finish(Deadline(kShortUs));
        best_s = std::min(best_s, seconds_since(begin) - kShortUs / 1e6);
        EXPECT_EQ(status.code(), RESHARD_ERR_TIMEOUT);
        EXPECT_THAT(status.message(), HasSubstr("not everything with ranks 1 is done"));
        EXPECT_THAT(status.message(), ::testing::Not(HasSubstr("the device still works on it")));
      }
      rank.meet();
      if (rank.number() == 1) {
        Status status = rank.driver().start();
        if (status.ok()) status = rank.driver().finish(Deadline(kTimeoutUs));
        EXPECT_EQ(status.code(), RESHARD_ERR_ABANDONED) << status.message();
      }
      rank.meet();
      return recover(&rank);
    };
    EXPECT_EQ(run_ranks(2, body), "");
  }
  EXPECT_LT(best_s, 1);
}

/// A run of rank 0 that a graph holds.
class Captured {
 public:
  explicit Captured(StreamRank* rank) : stream_(static_cast<cudaStream_t>(testing::callers_stream())) {
    cudaSetDevice(rank->number());
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    const Status status = rank->driver().start(stream_);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&launchable_, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
  ~Captured() { EXPECT_EQ(cudaGraphExecDestroy(launchable_), cudaSuccess); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  void launch() { EXPECT_EQ(cudaGraphLaunch(launchable_, stream_), cudaSuccess); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t launchable_ = nullptr;
};

/// The first launch is good, of the second only rank 0 takes part.
TEST_P(StreamFailureTest, AReplayThatFailsEndsAsARunDoes) {
  const StreamJob job = rows_to_columns(2, 1, {1 << 12});
  const auto body = [&](Transport* transport) -> std::string {
    StreamRank rank(job, transport, GetParam());
    const Status bound = rank.bind({.is_capturable = true});
    if (!bound.ok()) return bound.message();
    std::string wrong;
    {
      Captured captured(&rank);
      rank.fill(1);
      captured.launch();
      const Status good = rank.driver().finish(Deadline(kTimeoutUs));
      wrong += good.ok() ? rank.dst.check(1) : good.message();
      rank.meet();
      rank.fill(2);
      if (rank.number() == 0) {
        captured.launch();
        const Status status = rank.driver().finish(Deadline(300'000));
        EXPECT_EQ(status.code(), RESHARD_ERR_TIMEOUT) << status.message();
        EXPECT_THAT(status.message(), HasSubstr("run 2 passed its deadline"));
        EXPECT_EQ(rank.driver().finish(Deadline(kTimeoutUs)).code(), RESHARD_ERR_TIMEOUT) << "the failure sticks";
      }
      rank.meet();
      if (rank.number() == 1) {
        captured.launch();  // it cannot know yet
        const Status status = rank.driver().finish(Deadline(kTimeoutUs));
        EXPECT_EQ(status.code(), RESHARD_ERR_ABANDONED) << status.message();
      }
      rank.meet();
    }
    return wrong + recover(&rank);
  };
  EXPECT_EQ(run_ranks(2, body), "");
  // A communicator that ends while a launch still runs is one.
  EXPECT_EQ(nccl_double_count().misuses, 0) << nccl_double_last_misuse();
}

}  // namespace
}  // namespace reshard
