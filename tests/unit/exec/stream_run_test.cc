// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs in streams beside the caller's own work: his streams that wait for a group, his collectives on the communicator
// that he gave, whatever order the device takes things in.
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"
#include "tests/unit/exec/device_memory.h"
#include "tests/unit/exec/stream_jobs.h"

namespace reshard {
namespace {

using testing::rows_to_columns;
using testing::run_ranks;
using testing::StreamJob;
using testing::StreamRank;

/// RESHARD_STREAM_SEEDS=64 for more than a quick look.
std::uint64_t num_seeds() {
  const char* text = std::getenv("RESHARD_STREAM_SEEDS");
  return text == nullptr ? 4 : static_cast<std::uint64_t>(std::atoll(text));
}

class StreamRunTest : public ::testing::TestWithParam<bool> {
 protected:
  void TearDown() override {
    testing::forbid_mapping_flags(-1);
    cuda_double_clear();
    nccl_double_clear();
  }
};

INSTANTIATE_TEST_SUITE_P(Paths, StreamRunTest, ::testing::Bool(),
                         [](const auto& path) { return path.param ? "Mapped" : "Messages"; });

TEST_P(StreamRunTest, RunsAreRightInWhateverOrderStreamsWork) {
  const std::vector<StreamJob> jobs = {rows_to_columns(4, 1, {1 << 12}), rows_to_columns(3, 4, {1 << 13}),
                                       rows_to_columns(3, 5, {.staging_bytes = 1 << 12, .open_groups = 2})};
  for (std::uint64_t seed = 1; seed <= num_seeds(); ++seed) {
    for (const StreamJob& job : jobs) {
      testing::RunOptions options;
      options.scenario = {job.src, job.dst};
      options.plan = job.plan;
      options.src_mappable = options.dst_mappable = GetParam();
      options.late_seed = seed;
      options.spoils_groups = true;
      EXPECT_EQ(testing::run_world(options), "") << "seed " << seed;
    }
  }
}

/// Work that the caller queues right after start(), behind the event of a group: a copy of what the group brought.
class Reader {
 public:
  Reader(const StreamRank& rank, std::int64_t num_groups) {
    for (std::int64_t g = 0; g < num_groups; ++g) {
      const std::size_t size = static_cast<std::size_t>(at(rank.dst.bound(), g).size_bytes);
      copies_.push_back(PinnedMemory::allocate(rank.number(), size).take());
    }
  }

  void queue(StreamRank* rank, const Stream& stream, std::int64_t group) {
    const Result<void*> event = rank->driver().group_event(static_cast<std::int32_t>(group));
    ASSERT_TRUE(event.ok()) << event.status().message();
    ASSERT_EQ(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream.handle()), static_cast<cudaEvent_t>(*event), 0),
              cudaSuccess);
    const PinnedMemory& copy = at(copies_, group);
    std::memset(copy.data(), 0x77, copy.size_bytes());
    ASSERT_TRUE(copy_async(copy.data(), at(rank->dst.bound(), group).data, copy.size_bytes(), stream).ok());
  }

  /// Whether all that was read is what is there in the end.
  bool has_read_the_last(const StreamRank& rank, const Stream& stream) const {
    for (std::int64_t g = 0; g < std::ssize(copies_); ++g) {
      const PinnedMemory& copy = at(copies_, g);
      std::vector<std::byte> last(copy.size_bytes());
      EXPECT_TRUE(copy_and_wait(last.data(), at(rank.dst.bound(), g).data, last.size(), stream).ok());
      if (std::memcmp(last.data(), copy.data(), last.size()) != 0) return false;
    }
    return true;
  }

 private:
  std::vector<PinnedMemory> copies_;
};

TEST_P(StreamRunTest, ACallersStreamWaitsForAGroup) {
  constexpr std::int64_t kNumGroups = 4;
  const StreamJob job = rows_to_columns(3, kNumGroups, {.staging_bytes = 1 << 12, .open_groups = 1});
  for (std::uint64_t seed = 1; seed <= num_seeds(); ++seed) {
    testing::seed_streams(seed);
    const auto body = [&](Transport* transport) -> std::string {
      StreamRank rank(job, transport, GetParam());
      const Status bound = rank.bind();
      if (!bound.ok()) return bound.message();
      std::string wrong;
      Reader reader(rank, kNumGroups);
      const Stream stream = Stream::create(rank.number()).take();
      for (int run = 1; run <= 2; ++run) {
        rank.fill(run);
        if (!rank.driver().start().ok()) return "start\n";
        for (std::int64_t g = 0; g < kNumGroups; ++g) reader.queue(&rank, stream, g);
        if (!rank.driver().finish(Deadline(testing::kTimeoutUs)).ok()) return "finish\n";
        EXPECT_TRUE(stream.synchronize().ok());
        wrong += rank.dst.check(run);
        if (!reader.has_read_the_last(rank, stream)) wrong += "a group was read before it was complete\n";
      }
      rank.meet();
      return wrong;
    };
    EXPECT_EQ(run_ranks(3, body), "") << "seed " << seed;
  }
}

/// A communicator that a caller made, and a collective of his own on it.
class Given {
 public:
  Given(const StreamRank& rank, std::int32_t num_ranks, const ncclUniqueId& id) : num_ranks_(num_ranks) {
    const DeviceGuard guard = DeviceGuard::enter(rank.number()).take();
    EXPECT_EQ(ncclCommInitRank(&comm_, num_ranks, id, rank.number()), ncclSuccess);
    stream_.emplace(Stream::create(rank.number()).take());
    memory_ = DeviceMemory::allocate(rank.number(), sizeof(std::int64_t) * static_cast<std::size_t>(num_ranks)).take();
  }
  ~Given() { EXPECT_EQ(ncclCommDestroy(comm_), ncclSuccess); }
  Given(const Given&) = delete;
  Given& operator=(const Given&) = delete;
  ncclComm_t handle() const { return comm_; }

  /// Each rank gives a number of its own, and must get all.
  std::string gather(std::int32_t rank, std::int64_t salt) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(num_ranks_));
    const std::size_t size_bytes = all.size() * sizeof(all[0]);
    at(all, rank) = 100 * salt + rank;
    EXPECT_TRUE(copy_and_wait(memory_.data(), all.data(), size_bytes, *stream_).ok());
    const DeviceGuard guard = DeviceGuard::enter(rank).take();
    EXPECT_EQ(ncclAllReduce(memory_.data(), memory_.data(), all.size(), ncclInt64, ncclSum, comm_,
                            static_cast<cudaStream_t>(stream_->handle())),
              ncclSuccess);
    EXPECT_TRUE(copy_and_wait(all.data(), memory_.data(), size_bytes, *stream_).ok());
    for (std::int32_t r = 0; r < num_ranks_; ++r) {
      if (at(all, r) != 100 * salt + r) return fmt::format("the caller's own sum has {} of rank {}\n", at(all, r), r);
    }
    return {};
  }

 private:
  std::int32_t num_ranks_;
  ncclComm_t comm_ = nullptr;
  std::optional<Stream> stream_;
  DeviceMemory memory_;
};

TEST_F(StreamRunTest, ACommunicatorIsSharedWithTheCallersCollectives) {
  constexpr std::int32_t kNumRanks = 3;
  const StreamJob job = rows_to_columns(kNumRanks, 2, {1 << 12});
  for (std::uint64_t seed = 1; seed <= num_seeds(); ++seed) {
    testing::seed_streams(seed);
    ncclUniqueId id{};
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    const auto body = [&](Transport* transport) -> std::string {
      StreamRank rank(job, transport, false);
      Given given(rank, kNumRanks, id);
      const Status bound = rank.bind({.given = given.handle(), .max_ctas = 32});
      if (!bound.ok()) return bound.message();
      std::string wrong;
      for (int run = 1; run <= 3; ++run) {
        wrong += given.gather(rank.number(), run);
        wrong += rank.run(run);
      }
      wrong += given.gather(rank.number(), 9);
      rank.meet();
      rank.unbind();
      wrong += given.gather(rank.number(), 10);
      rank.meet();
      return wrong;
    };
    EXPECT_EQ(run_ranks(kNumRanks, body), "") << "seed " << seed;
    EXPECT_EQ(nccl_double_count().misuses, 0) << nccl_double_last_misuse();
  }
}

/// Tensors can be mapped, the flags of one rank not, or those of none: then nothing is read in place, on any rank.
TEST_F(StreamRunTest, WhereFlagsCannotBeMappedEverythingIsSent) {
  const StreamJob job = rows_to_columns(3, 2, {1 << 12});
  for (const std::int32_t rank_without : {-1, 1, testing::kAllRanks}) {
    testing::forbid_mapping_flags(rank_without);
    const auto body = [&](Transport* transport) -> std::string {
      StreamRank rank(job, transport, true);
      const Status bound = rank.bind();
      if (!bound.ok()) return bound.message();
      EXPECT_EQ(rank.binding().volume().bytes_mapped > 0, rank_without == -1);
      EXPECT_EQ(rank.binding().volume().bytes_sent > 0, rank_without != -1);
      std::string wrong = rank.run(1) + rank.run(2);
      rank.meet();
      return wrong;
    };
    EXPECT_EQ(run_ranks(3, body), "") << "without those of rank " << rank_without;
  }
}

}  // namespace
}  // namespace reshard
