// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The yardstick: how fast this machine copies memory at this moment, all receiving ranks at once. Measured in every
// run, because machines are shared and their speed drifts; a figure from another run would compare with another
// machine.
#include "perf/engine/plain_copy.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "perf/engine/error.h"
#include "perf/engine/statistics.h"

namespace reshard::perf {
namespace {

using Clock = std::chrono::steady_clock;

// The median of three leaves out one that was disturbed.
constexpr int kRounds = 3;
// Beyond the caches.
constexpr std::int64_t kMaxHostChunkBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMaxDeviceChunkBytes = std::int64_t{1} << 30;

/// Two pieces of memory to copy between. Large amounts are copied in pieces over the same memory: twice the bytes of a
/// transfer may not be there to spare.
class Chunks {
 public:
  Chunks(const Ranks& ranks, const MemoryChoice& memory, std::size_t size_bytes)
      : comm_(ranks.comm), is_on_device_(memory.kind != RESHARD_MEMORY_HOST), size_bytes_(size_bytes) {
    if (is_on_device_) {
      for (void** chunk : {&from_, &to_}) {
        check(reshard_alloc_on(comm_, memory.kind, memory.device, size_bytes_, chunk), "allocating chunks");
      }
    } else {
      host_.assign(2 * size_bytes_, std::byte{1});
      from_ = host_.data();
      to_ = host_.data() + size_bytes_;
    }
  }
  ~Chunks() {
    if (!is_on_device_) return;
    for (void* chunk : {from_, to_}) static_cast<void>(reshard_free(comm_, chunk));
  }
  Chunks(const Chunks&) = delete;
  Chunks& operator=(const Chunks&) = delete;

  void copy(std::int64_t size_bytes) const {
    for (std::int64_t done = 0; done < size_bytes;) {
      const std::int64_t now = std::min(size_bytes - done, static_cast<std::int64_t>(size_bytes_));
      copy_once(static_cast<std::size_t>(now));
      done += now;
    }
  }

 private:
  void copy_once(std::size_t size_bytes) const {
    if (is_on_device_) {
      check(reshard_copy(to_, from_, size_bytes), "copying within the device");
      return;
    }
    std::memcpy(to_, from_, size_bytes);
    asm volatile("" : : "r"(to_) : "memory");  // the compiler may not drop a copy that nobody reads
  }

  reshard_comm_t comm_;
  bool is_on_device_;
  std::size_t size_bytes_;
  std::vector<std::byte> host_;
  void* from_ = nullptr;
  void* to_ = nullptr;
};

}  // namespace

double plain_copy_bytes_per_second(const Ranks& ranks, const MemoryChoice& memory, std::int64_t size_bytes,
                                   bool takes_part) {
  if (size_bytes == 0) return 0;
  const std::int64_t most = memory.kind == RESHARD_MEMORY_HOST ? kMaxHostChunkBytes : kMaxDeviceChunkBytes;
  const Chunks chunks(ranks, memory, static_cast<std::size_t>(takes_part ? std::min(size_bytes, most) : 0));
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    barrier(ranks);
    const auto start = Clock::now();
    if (takes_part) chunks.copy(size_bytes);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return static_cast<double>(size_bytes) / median(max_over_ranks(ranks, seconds));
}

}  // namespace reshard::perf
