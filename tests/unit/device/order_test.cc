// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A pipeline over three streams through this room, and a test of that test: each order between its streams, and between
// them and the host, is left out in turn, and some seed of the double must see it.
#include <string>
#include <thread>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/stream.h"
#include "tests/unit/device/add_kernel.h"
#include "tests/unit/device/device_under_test.h"

namespace reshard {
namespace {

constexpr std::uint64_t kNumSeeds = 64;
constexpr int kNumRounds = 4;
constexpr int kNumElements = 512;
constexpr std::size_t kBytes = kNumElements * sizeof(int);

/// Uploads from one pinned buffer, adds, and downloads; the device has one buffer for each, so that a round must
/// neither read too early nor write before the round before it has read.
class Pipeline {
 public:
  Status run() {
    RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(0));
    RESHARD_TRY(up_, Stream::create(0));
    RESHARD_TRY(work_, Stream::create(0));
    RESHARD_TRY(down_, Stream::create(0));
    RESHARD_TRY(uploaded_, Event::create(0));
    RESHARD_TRY(added_, Event::create(0));
    RESHARD_TRY(downloaded_, Event::create(0));
    RESHARD_TRY(first_, DeviceMemory::allocate(0, kBytes));
    RESHARD_TRY(second_, DeviceMemory::allocate(0, kBytes));
    RESHARD_TRY(in_, PinnedMemory::allocate(0, kBytes));
    RESHARD_TRY(out_, PinnedMemory::allocate(0, kNumRounds * kBytes));
    for (int round = 0; round < kNumRounds; ++round) RESHARD_TRY(run_round(round));
    while (true) {
      RESHARD_TRY(const bool done, downloaded_.is_done());
      if (done) break;
    }
    const auto* result = static_cast<const int*>(out_.data());
    for (int index = 0; index < kNumRounds * kNumElements; ++index) {
      const int round = index / kNumElements;
      if (result[index] != 10 * round + 1) is_right_ = false;
    }
    // Whatever was left out, nothing may be under way when the memory goes.
    RESHARD_TRY(up_.synchronize());
    RESHARD_TRY(work_.synchronize());
    return down_.synchronize();
  }
  bool is_right() const { return is_right_; }

 private:
  Status run_round(int round) {
    if (round > 0) RESHARD_TRY(uploaded_.synchronize());  // the host writes what the upload reads
    auto* const values = static_cast<int*>(in_.data());
    for (int index = 0; index < kNumElements; ++index) values[index] = 10 * round;

    if (round > 0) RESHARD_TRY(up_.wait(added_));
    RESHARD_TRY(copy_async(first_.data(), values, kBytes, up_));
    RESHARD_TRY(uploaded_.record(up_));

    RESHARD_TRY(work_.wait(uploaded_));
    if (round > 0) RESHARD_TRY(work_.wait(downloaded_));
    if (launch_add(static_cast<int*>(second_.data()), static_cast<int*>(first_.data()), kNumElements, 1,
                   work_.handle()) != 0) {
      return {RESHARD_ERR_TRANSPORT, "the kernel was not launched"};
    }
    RESHARD_TRY(added_.record(work_));

    RESHARD_TRY(down_.wait(added_));
    RESHARD_TRY(copy_async(static_cast<int*>(out_.data()) + round * kNumElements, second_.data(), kBytes, down_));
    return downloaded_.record(down_);
  }

  // Null handles until run() makes them.
  Stream up_ = nothing(), work_ = nothing(), down_ = nothing();
  Event uploaded_ = no_event(), added_ = no_event(), downloaded_ = no_event();
  static Stream nothing() { return Stream::borrow(nullptr, 0).take(); }
  static Event no_event() { return Event::create(0).take(); }
  DeviceMemory first_;
  DeviceMemory second_;
  PinnedMemory in_;
  PinnedMemory out_;
  bool is_right_ = true;
};

/// Whether some seed sees that the nth order of this function is missing.
bool is_found(const std::string& function, std::int64_t nth) {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    cuda_double_seed(seed);
    Pipeline pipeline;
    cuda_double_leave_out(function.c_str(), nth);
    EXPECT_TRUE(pipeline.run().ok());
    cuda_double_leave_out(function.c_str(), 0);
    if (!pipeline.is_right()) return true;
  }
  return false;
}

using OrderTest = DeviceTest;

TEST_F(OrderTest, PipelineIsRightInEveryOrderThatItsEventsAllow) {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    cuda_double_seed(seed);
    Pipeline pipeline;
    const Status status = pipeline.run();
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(pipeline.is_right()) << "seed " << seed;
  }
}

TEST_F(OrderTest, EveryEdgeBetweenStreamsThatIsLeftOutIsFound) {
  cuda_double_leave_out("cudaStreamWaitEvent", 0);
  {
    Pipeline pipeline;
    ASSERT_TRUE(pipeline.run().ok());
  }
  const std::int64_t num_edges = cuda_double_orders_of("cudaStreamWaitEvent");
  EXPECT_EQ(num_edges, 2 + 4 * (kNumRounds - 1));
  for (std::int64_t nth = 1; nth <= num_edges; ++nth) {
    EXPECT_TRUE(is_found("cudaStreamWaitEvent", nth)) << "edge " << nth << " of " << num_edges;
  }
}

TEST_F(OrderTest, HostThatGoesOnTooEarlyIsFound) {
  for (std::int64_t nth = 1; nth < kNumRounds; ++nth) {
    EXPECT_TRUE(is_found("cudaEventSynchronize", nth)) << "wait " << nth << " for an upload";
  }
  EXPECT_TRUE(is_found("cudaEventQuery", 1)) << "wait for the last download";
}

TEST_F(OrderTest, StreamWaitsForAnEventOfAnotherDevice) {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    cuda_double_seed(seed);
    const Result<Stream> here = Stream::create(0);
    const Result<Stream> there = Stream::create(1);
    Result<Event> event = Event::create(0);
    const Result<DeviceMemory> source = DeviceMemory::allocate(0, kBytes);
    const Result<DeviceMemory> destination = DeviceMemory::allocate(1, kBytes);
    ASSERT_TRUE(here.ok() && there.ok() && event.ok() && source.ok() && destination.ok());
    ASSERT_TRUE(fill_async(source->data(), 0, kBytes, *here).ok());
    ASSERT_TRUE(event->record(*here).ok());
    ASSERT_TRUE(there->wait(*event).ok());
    ASSERT_TRUE(copy_async(destination->data(), source->data(), kBytes, *there).ok());
    ASSERT_TRUE(there->synchronize().ok());
    EXPECT_EQ(peek_ints(destination->data(), kNumElements), std::vector<int>(kNumElements, 0)) << "seed " << seed;
  }
}

TEST_F(OrderTest, OwnStreamsDoNotWaitForTheDefaultStream) {
  int num_overtaken = 0;
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    cuda_double_seed(seed);
    const Result<Stream> defaults = Stream::borrow(nullptr, 0);
    const Result<Stream> own = Stream::create(0);
    const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
    ASSERT_TRUE(defaults.ok() && own.ok() && memory.ok());
    ASSERT_TRUE(fill_async(memory->data(), 1, 4, *defaults).ok());
    ASSERT_TRUE(fill_async(memory->data(), 2, 4, *own).ok());
    ASSERT_TRUE(own->synchronize().ok());
    if (cuda_double_num_queued() > 0) ++num_overtaken;
    ASSERT_TRUE(defaults->synchronize().ok());
  }
  EXPECT_GT(num_overtaken, 0);
}

TEST_F(OrderTest, RecordingAnEventAgainLeavesEarlierWaitsWhereTheyWere) {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    cuda_double_seed(seed);
    const Result<Stream> first = Stream::create(0);
    const Result<Stream> second = Stream::create(0);
    Result<Event> event = Event::create(0);
    const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
    ASSERT_TRUE(first.ok() && second.ok() && event.ok() && memory.ok());
    ASSERT_TRUE(event->record(*first).ok());
    ASSERT_TRUE(second->wait(*event).ok());
    ASSERT_TRUE(fill_async(memory->data(), 1, kBytes, *second).ok());
    Result<Event> filled = Event::create(0);
    ASSERT_TRUE(filled.ok() && filled->record(*second).ok());
    ASSERT_TRUE(first->wait(*filled).ok());  // a circle, if the wait of `second` moved with the record that follows
    ASSERT_TRUE(event->record(*first).ok());
    ASSERT_TRUE(event->synchronize().ok());
    ASSERT_TRUE(second->synchronize().ok());
  }
}

}  // namespace
}  // namespace reshard
