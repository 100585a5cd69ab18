// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The launches of production, as nvcc compiled them, on the double of the runtime: the right kernel with the right
// parameters, one launch for a batch of many kinds, and errors as statuses.
#include "kernels/cuda/launch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "random_copies.h"
#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/stream.h"
#include "tests/doubles/cuda/control.h"
#include "tests/unit/kernels/reference.h"

namespace reshard::testing {
namespace {

template <typename T>
T value_of(Result<T> result) {
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.take();
}

void expect_ok(const Status& status) {
  ASSERT_TRUE(status.ok()) << status.message();
}

DeviceMemory upload(const void* bytes, std::size_t size, const Stream& stream) {
  DeviceMemory memory = value_of(DeviceMemory::allocate(0, size));
  expect_ok(copy_async(memory.data(), bytes, size, stream));
  expect_ok(stream.synchronize());
  return memory;
}

template <typename T>
DeviceMemory upload(const std::vector<T>& values, const Stream& stream) {
  return upload(values.data(), values.size() * sizeof(T), stream);
}

class LaunchTest : public ::testing::Test {
 protected:
  LaunchTest() : stream_(value_of(Stream::create(0))) {}
  void check_batch(Status (*launch)(const DeviceTable&, const TileRange&, int, void*));
  Stream stream_;
};

void LaunchTest::check_batch(Status (*launch)(const DeviceTable&, const TileRange&, int, void*)) {
  std::mt19937_64 random(7);
  std::vector<RandomCopy> copies;
  std::vector<DeviceMemory> sources;
  std::vector<DeviceMemory> targets;
  CopyList list;
  for (int i = 0; i < 40; ++i) {
    copies.push_back(random_copy(&random));
    sources.push_back(upload(copies.back().src, stream_));
    targets.push_back(upload(copies.back().dst, stream_));
    list.add(copies.back().bind(static_cast<std::byte*>(sources.back().data()),
                                static_cast<std::byte*>(targets.back().data())));
  }
  TileTable table;
  const TileRange batch = table.add(list);
  std::vector<std::byte> bytes(static_cast<std::size_t>(table.num_bytes()));
  table.write(bytes.data());
  const DeviceMemory uploaded = upload(bytes, stream_);
  cuda_double_reset_counters();
  expect_ok(launch(table.at(uploaded.data()), batch, 7, stream_.handle()));
  EXPECT_EQ(cuda_double_count().launches, 1);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    std::vector<std::byte> expected = copies[i].dst;
    reference_copy(copies[i].bind(copies[i].src.data(), expected.data()));
    std::vector<std::byte> got(expected.size());
    expect_ok(copy_async(got.data(), targets[i].data(), got.size(), stream_));
    expect_ok(stream_.synchronize());
    EXPECT_EQ(got, expected) << "copy " << i;
  }
}

TEST_F(LaunchTest, ABatchOfCopiesOfAllKindsIsOneLaunch) {
  check_batch(launch_copies);
}

TEST_F(LaunchTest, ABatchWithBulkCopiesIsOneLaunch) {
  check_batch(launch_copies_in_bulk);
}

TEST_F(LaunchTest, AnEmptyBatchLaunchesNothing) {
  cuda_double_reset_counters();
  expect_ok(launch_copies({}, {}, 1, stream_.handle()));
  EXPECT_EQ(cuda_double_count().launches, 0);
}

TEST_F(LaunchTest, ATableThatWasNotUploadedIsRefused) {
  const Status status = launch_copies({}, {0, 1, 16}, 1, stream_.handle());
  EXPECT_EQ(status.code(), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST_F(LaunchTest, ALaunchThatFailsSaysWhatCudaSaid) {
  const DeviceMemory table = value_of(DeviceMemory::allocate(0, 80));
  cuda_double_fail("cudaLaunchKernel", 1, 719);  // cudaErrorLaunchFailure
  const Status status = launch_copies({table.data(), 1}, {0, 1, 16}, 1, stream_.handle());
  EXPECT_EQ(status.code(), RESHARD_ERR_TRANSPORT);
  EXPECT_NE(status.message().find("cudaErrorLaunchFailure"), std::string::npos) << status.message();
}

// Two flags in device memory, an epoch, and what the host says and hears.
class FlagsTest : public LaunchTest {
 protected:
  FlagsTest()
      : words_(upload(std::vector<std::uint64_t>{0, 0, 5}, stream_)),
        pinned_(value_of(PinnedMemory::allocate(0, 2 * sizeof(std::uint32_t)))) {
    auto* words = static_cast<std::uint64_t*>(words_.data());
    addresses_ = upload(std::vector<std::uint64_t*>{words, words + 1}, stream_);
  }
  std::uint64_t* const* flags() const { return static_cast<std::uint64_t* const*>(addresses_.data()); }
  const std::uint64_t* epoch() const { return static_cast<std::uint64_t*>(words_.data()) + 2; }
  std::uint32_t* abort_word() const { return static_cast<std::uint32_t*>(pinned_.data()); }
  std::uint32_t* outcome() const { return abort_word() + 1; }

  WaitFlags wait_for(std::chrono::nanoseconds timeout) const {
    return {flags(), 2, epoch(), abort_word(), outcome(), timeout.count()};
  }
  FlagOutcome outcome_after(const Stream& stream) const {
    expect_ok(stream.synchronize());
    return static_cast<FlagOutcome>(*outcome());
  }

  DeviceMemory words_;
  DeviceMemory addresses_;
  PinnedMemory pinned_;
};

TEST_F(FlagsTest, AWaitHoldsItsStreamUntilAnotherStreamHasSetAllFlags) {
  Stream other = value_of(Stream::create(0));
  expect_ok(launch_wait_flags(wait_for(std::chrono::seconds(60)), stream_.handle()));
  expect_ok(launch_set_flags(flags(), 1, epoch(), other.handle()));
  expect_ok(other.synchronize());
  EXPECT_FALSE(value_of(stream_.is_done()));
  expect_ok(launch_set_flags(flags() + 1, 1, epoch(), other.handle()));
  EXPECT_EQ(outcome_after(stream_), FlagOutcome::kArrived);
}

TEST_F(FlagsTest, AFlagThatIsAheadHasArrived) {
  const DeviceMemory later = upload(std::vector<std::uint64_t>{6}, stream_);
  expect_ok(launch_set_flags(flags(), 2, static_cast<std::uint64_t*>(later.data()), stream_.handle()));
  expect_ok(launch_wait_flags(wait_for(std::chrono::seconds(60)), stream_.handle()));
  EXPECT_EQ(outcome_after(stream_), FlagOutcome::kArrived);
}

TEST_F(FlagsTest, AWaitEndsWhenItsTimeIsOver) {
  expect_ok(launch_wait_flags(wait_for(std::chrono::milliseconds(20)), stream_.handle()));
  EXPECT_EQ(outcome_after(stream_), FlagOutcome::kTimedOut);
}

TEST_F(FlagsTest, AWaitEndsWhenTheHostSaysSo) {
  *abort_word() = 1;
  expect_ok(launch_wait_flags(wait_for(std::chrono::seconds(60)), stream_.handle()));
  EXPECT_EQ(outcome_after(stream_), FlagOutcome::kAborted);
}

TEST_F(FlagsTest, AnEpochIsCountedWhenTheStreamComesToIt) {
  auto* const mirror = static_cast<std::uint64_t*>(pinned_.data());
  auto* const counted = const_cast<std::uint64_t*>(epoch());
  expect_ok(launch_advance_epoch(counted, mirror, stream_.handle()));
  expect_ok(launch_advance_epoch(counted, mirror, stream_.handle()));
  expect_ok(launch_set_flags(flags(), 1, epoch(), stream_.handle()));
  expect_ok(stream_.synchronize());
  EXPECT_EQ(*mirror, 7U);
  std::uint64_t flag = 0;
  cuda_double_peek(&flag, words_.data(), sizeof(flag));
  EXPECT_EQ(flag, 7U);
}

}  // namespace
}  // namespace reshard::testing
