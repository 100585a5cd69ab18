// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory and what is done with it: sizes, owners, errors.
#include <numeric>
#include <utility>

#include "src/device/device.h"
#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/peer_memory.h"
#include "src/device/profile_range.h"
#include "tests/unit/device/device_under_test.h"

namespace reshard {
namespace {

using MemoryTest = DeviceTest;

TEST_F(MemoryTest, BytesGoThereAndBack) {
  const Result<Stream> stream = Stream::create(1);
  const Result<DeviceMemory> memory = DeviceMemory::allocate(1, 4000);
  ASSERT_TRUE(stream.ok() && memory.ok());
  std::vector<int> in(1000);
  std::iota(in.begin(), in.end(), 1);
  ASSERT_TRUE(copy_and_wait(memory->data(), in.data(), 4000, *stream).ok());
  std::vector<int> out(1000);
  ASSERT_TRUE(copy_and_wait(out.data(), memory->data(), 4000, *stream).ok());
  EXPECT_EQ(out, in);
  ASSERT_TRUE(fill_async(memory->data(), 0x11, 2000, *stream).ok());
  ASSERT_TRUE(stream->synchronize().ok());
  EXPECT_EQ(peek_ints(memory->data(), 500), std::vector<int>(500, 0x11111111));
  EXPECT_EQ(peek_ints(static_cast<std::byte*>(memory->data()) + 2000, 1)[0], 501);
}

TEST_F(MemoryTest, NothingIsInOrder) {
  const Result<Stream> stream = Stream::create(0);
  const Result<DeviceMemory> memory = DeviceMemory::allocate(0, 0);
  const Result<PinnedMemory> pinned = PinnedMemory::allocate(0, 0);
  ASSERT_TRUE(stream.ok() && memory.ok() && pinned.ok());
  EXPECT_EQ(memory->data(), nullptr);
  EXPECT_EQ(pinned->data(), nullptr);
  EXPECT_TRUE(copy_async(nullptr, nullptr, 0, *stream).ok());
  EXPECT_TRUE(fill_async(nullptr, 0, 0, *stream).ok());
  EXPECT_EQ(cuda_double_count().allocations, 0);
}

TEST_F(MemoryTest, MovingLeavesOneOwner) {
  Result<DeviceMemory> first = DeviceMemory::allocate(0, 100);
  Result<PinnedMemory> pinned = PinnedMemory::allocate(0, 100);
  ASSERT_TRUE(first.ok() && pinned.ok());
  void* const data = first->data();
  DeviceMemory second(first.take());
  EXPECT_EQ(second.data(), data);
  DeviceMemory third;
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  const PinnedMemory other(pinned.take());
  EXPECT_EQ(*static_cast<const char*>(other.data()), 0);
}

TEST_F(MemoryTest, TooMuchIsOutOfMemoryWithWhatIsFree) {
  cuda_double_set_memory(10000);
  const Result<DeviceMemory> some = DeviceMemory::allocate(3, 4000);
  ASSERT_TRUE(some.ok());
  expect_error(
      DeviceMemory::allocate(3, 6001).status(), RESHARD_ERR_OUT_OF_MEMORY,
      "cudaMalloc of 6001 bytes on device 3 failed: cudaErrorMemoryAllocation .2.: out of memory; device 3 has "
      "6000 of 10000 bytes free");
  EXPECT_TRUE(DeviceMemory::allocate(3, 6000).ok());
}

TEST_F(MemoryTest, MemoryForTheDomainIsMadeOfPagesWhereTheDriverHasFabricHandles) {
  const Result<DeviceMemory> plain = DeviceMemory::allocate(1, 100, Export::kDomain);
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(cuda_double_calls_of("cudaMalloc"), 1);
  cuda_double_set_fabric(1);
  const Result<DeviceMemory> pages = DeviceMemory::allocate(1, 100, Export::kDomain);
  ASSERT_TRUE(pages.ok()) << pages.status().message();
  EXPECT_EQ(cuda_double_calls_of("cudaMalloc"), 1);
  EXPECT_EQ(pages->size_bytes(), 100U);
  EXPECT_TRUE(cuda_double_can_access(1, pages->data(), 100));
  // The device may say that it can where the service for it does not run.
  cuda_double_fail("cuMemCreate", 1, CUDA_ERROR_NOT_PERMITTED);
  EXPECT_TRUE(DeviceMemory::allocate(1, 100, Export::kDomain).ok());
  EXPECT_EQ(cuda_double_calls_of("cudaMalloc"), 2);
  cuda_double_set_memory(4 << 20);
  expect_error(DeviceMemory::allocate(1, 3 << 20, Export::kDomain).status(), RESHARD_ERR_OUT_OF_MEMORY,
               "cuMemCreate of 4194304 bytes on device 1 failed.*; device 1 has 2097052 of 4194304 bytes free");
}

TEST_F(MemoryTest, FlagsLieApartAndAreZero) {
  const Result<ReadinessFlags> flags = ReadinessFlags::create(2, 5);
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ(flags->num_flags(), 5);
  EXPECT_EQ(peek_ints(flags->base(), 5 * 32), std::vector<int>(5 * 32, 0));
  EXPECT_EQ(static_cast<std::byte*>(ReadinessFlags::address(flags->base(), 4)) - static_cast<std::byte*>(flags->base()),
            4 * 128);
  expect_error(ReadinessFlags::create(2, -1).status(), RESHARD_ERR_INVALID_ARGUMENT, "-1 readiness flags");
  expect_error(ReadinessFlags::create(2, (std::int64_t{1} << 32) + 1).status(), RESHARD_ERR_INVALID_ARGUMENT, "2.32");
}

TEST_F(MemoryTest, RangesForProfilersNest) {
  const ProfileRange outer("outer");
  const ProfileRange inner("inner");
}

TEST_F(MemoryTest, StreamOfAnotherDeviceIsRefused) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  cudaStream_t handle = nullptr;
  ASSERT_EQ(cudaStreamCreate(&handle), cudaSuccess);
  EXPECT_TRUE(Stream::borrow(handle, 1).ok());
  expect_error(Stream::borrow(handle, 2).status(), RESHARD_ERR_INVALID_ARGUMENT,
               "the stream 0x.* is one of device 1, but this rank uses device 2");
  ASSERT_EQ(cudaStreamDestroy(handle), cudaSuccess);
  expect_error(Stream::borrow(handle, 1).status(), RESHARD_ERR_TRANSPORT, "cudaStreamGetDevice of the caller's stream");
  const Result<Stream> ours = Stream::borrow(nullptr, 2);  // the default stream is that of the device that is meant
  EXPECT_TRUE(ours.ok());
}

TEST_F(MemoryTest, EventsStayOnTheirDevice) {
  const Result<Stream> stream = Stream::create(1);
  Result<Event> event = Event::create(2);
  ASSERT_TRUE(stream.ok() && event.ok());
  expect_error(event->record(*stream), RESHARD_ERR_INVALID_ARGUMENT,
               "an event of device 2 cannot be recorded in a stream of device 1");
  EXPECT_TRUE(stream->wait(*event).ok());
  const Result<bool> done = event->is_done();
  ASSERT_TRUE(done.ok());
  EXPECT_TRUE(*done) << "never recorded";
}

TEST_F(MemoryTest, FailedWorkIsToldByWhoWaitsForIt) {
  const Result<Stream> stream = Stream::create(0);
  Result<Event> event = Event::create(0);
  const Result<DeviceMemory> memory = DeviceMemory::allocate(0, 100);
  ASSERT_TRUE(stream.ok() && event.ok() && memory.ok());
  cuda_double_fail_work(1, cudaErrorIllegalAddress);
  EXPECT_TRUE(fill_async(memory->data(), 1, 100, *stream).ok());
  (void)event->record(*stream);
  const char* const text = "failed: cudaErrorIllegalAddress .700.: an illegal memory access.*end it";
  expect_error(event->synchronize(), RESHARD_ERR_TRANSPORT, text);
  expect_error(event->is_done().status(), RESHARD_ERR_TRANSPORT, text);
  expect_error(stream->synchronize(), RESHARD_ERR_TRANSPORT, text);
  expect_error(stream->is_done().status(), RESHARD_ERR_TRANSPORT, text);
  expect_error(copy_async(memory->data(), memory->data(), 50, *stream), RESHARD_ERR_TRANSPORT, text);
  cuda_double_clear();
}

/// What an owner of memory has to do before he gives it back, also when something has failed.
struct WaitForAll {
  ~WaitForAll() { (void)cudaDeviceSynchronize(), (void)cudaGetLastError(); }
};

/// Does a little of everything; `failed` is what had been failed when all was done, before anything is given back.
Status use_all(std::string* failed) {
  const std::vector<int> host(25, 1);
  std::vector<int> back(25);
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(0));
  RESHARD_TRY(const DeviceMemory memory, DeviceMemory::allocate(0, 100));
  RESHARD_TRY(const DeviceMemory pages, DeviceMemory::allocate(0, 100, Export::kDomain));
  RESHARD_TRY(const PinnedMemory pinned, PinnedMemory::allocate(0, 100));
  const WaitForAll wait;
  RESHARD_TRY(const Stream stream, Stream::create(0));
  RESHARD_TRY(const Stream other, Stream::create(0));
  RESHARD_TRY(const Stream borrowed, Stream::borrow(other.handle(), 0));
  RESHARD_TRY(Event event, Event::create(0));
  RESHARD_TRY(copy_and_wait(memory.data(), host.data(), 100, stream));
  RESHARD_TRY(fill_async(pages.data(), 2, 100, stream));
  RESHARD_TRY(event.record(stream));
  RESHARD_TRY(borrowed.wait(event));
  RESHARD_TRY(copy_async(pinned.data(), pages.data(), 100, borrowed));
  RESHARD_TRY(event.synchronize());
  RESHARD_TRY([[maybe_unused]] const bool event_done, event.is_done());
  RESHARD_TRY([[maybe_unused]] const bool stream_done, stream.is_done());
  RESHARD_TRY(borrowed.synchronize());
  RESHARD_TRY(const std::unique_ptr<DevicePeerMemory> peers, DevicePeerMemory::create(0));
  RESHARD_TRY(const std::vector<std::byte> key, peers->export_memory(memory.data(), 100));
  RESHARD_TRY(const std::vector<std::byte> pages_key, peers->export_memory(pages.data(), 100));
  RESHARD_TRY(const std::unique_ptr<DevicePeerMemory> reader, DevicePeerMemory::create(1));
  RESHARD_TRY([[maybe_unused]] void* const mapped, reader->map(key));
  RESHARD_TRY([[maybe_unused]] void* const mapped_pages, reader->map(pages_key));
  RESHARD_TRY(check_device(0));
  *failed = cuda_double_last_failed();
  return {};
}

TEST_F(MemoryTest, EveryCallThatFailsIsToldAndNothingIsLost) {
  cuda_double_set_fabric(1);
  std::string failed;
  ASSERT_TRUE(use_all(&failed).ok());
  std::int64_t num_failures = 0;
  for (std::int64_t nth = 1;; ++nth) {
    cuda_double_clear();
    cuda_double_fail("any", nth, cudaErrorIllegalAddress);
    const Status status = use_all(&failed);
    if (status.ok() && failed.empty()) break;  // the failure came later, if at all
    // What a guard restores at its end it has no way to tell; and what cannot be mapped is no error.
    if (status.ok() && (failed == "cuCtxSetCurrent" || failed == "cuMemSetAccess")) continue;
    SCOPED_TRACE("call " + std::to_string(nth) + ", " + cuda_double_last_failed());
    ++num_failures;
    expect_error(status, RESHARD_ERR_TRANSPORT, "^cu[a-zA-Z]+.* failed: cudaErrorIllegalAddress .700.");
    EXPECT_EQ(cuda_double_num_live(), 0) << status.message();
  }
  EXPECT_GE(num_failures, 50);
  cuda_double_clear();
}

}  // namespace
}  // namespace reshard
