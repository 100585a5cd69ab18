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

#include "perf/engine/statistics.h"

namespace reshard::perf {
namespace {

using Clock = std::chrono::steady_clock;

// The median of three leaves out one that was disturbed.
constexpr int kRounds = 3;
constexpr std::int64_t kMaxChunkBytes = std::int64_t{64} << 20;  // beyond the caches

void copy_in_chunks(const std::vector<std::byte>& from, std::vector<std::byte>* to, std::int64_t size_bytes) {
  for (std::int64_t done = 0; done < size_bytes;) {
    const std::int64_t now = std::min(size_bytes - done, static_cast<std::int64_t>(from.size()));
    std::memcpy(to->data(), from.data(), static_cast<std::size_t>(now));
    asm volatile("" : : "r"(to->data()) : "memory");  // the compiler may not drop a copy that nobody reads
    done += now;
  }
}

}  // namespace

double plain_copy_bytes_per_second(const Ranks& ranks, std::int64_t size_bytes, bool takes_part) {
  if (size_bytes == 0) return 0;
  // Large amounts are copied in pieces over the same memory: twice the bytes of a transfer may not be there to spare.
  const auto chunk_bytes = static_cast<std::size_t>(takes_part ? std::min(size_bytes, kMaxChunkBytes) : 0);
  const std::vector<std::byte> from(chunk_bytes, std::byte{1});
  std::vector<std::byte> to(chunk_bytes);
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    barrier(ranks);
    const auto start = Clock::now();
    if (takes_part) copy_in_chunks(from, &to, size_bytes);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return static_cast<double>(size_bytes) / median(max_over_ranks(ranks, seconds));
}

}  // namespace reshard::perf
