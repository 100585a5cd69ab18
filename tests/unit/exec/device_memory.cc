// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "src/device/memory.h"
#include "src/device/stream.h"
#include "src/transport/cuda_peer_memory.h"
#include "tests/doubles/cuda/control.h"
#include "tests/unit/exec/buffer_memory.h"
#include "tests/unit/exec/device_memory.h"

namespace reshard::testing {
namespace {

// Of the rank that this thread is.
thread_local std::int32_t t_device = 0;

// What peers may not map, by the first byte.
std::mutex unmappable_mutex;
std::set<const std::byte*> unmappable;
std::map<const std::byte*, std::size_t> tensors;  // by the first byte of their memory: its size
std::int32_t without_flags = -1;                  // the device

/// Whether this lies in memory of a test's tensors. With the lock.
bool is_of_tensor(const void* ptr) {
  const auto* const byte = static_cast<const std::byte*>(ptr);
  const auto after = tensors.upper_bound(byte);
  return after != tensors.begin() && byte < std::prev(after)->first + std::prev(after)->second;
}

template <typename T>
T made(Result<T> result) {
  return std::move(*result);
}

const Stream& stream_of_thread() {
  thread_local std::map<std::int32_t, Stream> streams;
  const auto found = streams.find(t_device);
  return found != streams.end() ? found->second
                                : streams.emplace(t_device, made(Stream::create(t_device))).first->second;
}

class OnDevice final : public BufferMemory {
 public:
  OnDevice(std::size_t size_bytes, bool is_mappable)
      : memory_(made(DeviceMemory::allocate(t_device, size_bytes))),
        image_(made(PinnedMemory::allocate(t_device, size_bytes))) {
    const std::lock_guard lock(unmappable_mutex);
    if (!is_mappable) unmappable.insert(bound());
    tensors.emplace(bound(), size_bytes);
  }
  ~OnDevice() override {
    const std::lock_guard lock(unmappable_mutex);
    unmappable.erase(bound());
    tensors.erase(bound());
    // A run in streams that failed may still be working when its status comes, and says so; what it may touch is not
    // freed then.
    static auto& kept = *new std::deque<DeviceMemory>;
    if (is_on_streams() && cuda_double_num_queued() > 0) kept.push_back(std::move(memory_));
  }
  std::byte* bound() const override { return static_cast<std::byte*>(memory_.data()); }
  std::byte* image() override { return static_cast<std::byte*>(image_.data()); }
  void publish(std::size_t begin, std::size_t size_bytes, bool is_queued) override {
    const Stream& stream = stream_of_thread();
    EXPECT_TRUE(copy_async(bound() + begin, image() + begin, size_bytes, stream).ok());
    if (is_queued) return;
    EXPECT_TRUE(stream.synchronize().ok());
  }
  void fetch() override { EXPECT_TRUE(copy_and_wait(image(), bound(), memory_.size_bytes(), stream_of_thread()).ok()); }

 private:
  DeviceMemory memory_;
  PinnedMemory image_;
};

/// As a peer sees memory of a pool, or of a device that it has no access to: there, and not to be mapped.
class PartlyMappable final : public PeerMemory {
 public:
  explicit PartlyMappable(std::int32_t device) : all_(made(CudaPeerMemory::create(device))) {}
  MemorySpace space() const override { return all_->space(); }
  std::int32_t device() const override { return all_->device(); }
  bool shares_memory(std::int32_t peer) const override { return all_->shares_memory(peer); }
  Result<void*> allocate(std::size_t size_bytes) override { return all_->allocate(size_bytes); }
  Status free(void* ptr) override { return all_->free(ptr); }
  MemoryKey export_memory(const void* ptr, std::size_t size_bytes) override {
    const std::lock_guard lock(unmappable_mutex);
    const auto after = unmappable.upper_bound(static_cast<const std::byte*>(ptr));
    // Buffers begin a guard zone behind the allocation, and no two allocations are that close.
    const bool is_unmappable =
        after != unmappable.begin() && static_cast<const std::byte*>(ptr) - *std::prev(after) <= 64;
    const bool is_forbidden = without_flags == kAllRanks || without_flags == all_->device();
    if (is_forbidden && !is_of_tensor(ptr)) return {};
    return is_unmappable ? MemoryKey() : all_->export_memory(ptr, size_bytes);
  }
  Result<void*> map(std::int32_t peer, const MemoryKey& key) override { return all_->map(peer, key); }
  void unmap(std::int32_t peer, const MemoryKey& key, void* ptr) override { all_->unmap(peer, key, ptr); }

 private:
  std::unique_ptr<CudaPeerMemory> all_;
};

}  // namespace

void forbid_mapping_flags(std::int32_t device) {
  const std::lock_guard lock(unmappable_mutex);
  without_flags = device;
}

std::unique_ptr<BufferMemory> BufferMemory::allocate(Transport* transport, std::size_t size_bytes, bool is_mappable) {
  t_device = device_of(transport->rank());
  return std::make_unique<OnDevice>(size_bytes, is_mappable);
}

bool is_on_device() {
  return true;
}

void* callers_stream() {
  return stream_of_thread().handle();
}

void seed_streams(std::uint64_t seed) {
  cuda_double_seed(seed);
}

void choose_memory(BindOptions* options) {
  if (!options->arguments.ok() || options->transport == nullptr) return;
  // They outlive the bindings, which the tests destroy when they like.
  static std::mutex mutex;
  static std::deque<PartlyMappable> kept;
  const std::lock_guard lock(mutex);
  t_device = device_of(options->transport->rank());  // also of a rank that has no buffers
  options->peer_memory = &kept.emplace_back(t_device);
  choose_driver(options, t_device);
}

}  // namespace reshard::testing
