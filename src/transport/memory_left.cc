// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/memory_left.h"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <string>

namespace reshard {
namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

// What UCX allocates while it maps a segment: a few pages and what the allocator takes at a time.
constexpr std::size_t kSpaceForOthers = std::size_t{8} << 20;

// A process may already stand above a limit that was lowered later; what is left is then nothing and not 2^64.
std::size_t less(std::size_t limit, std::size_t used) {
  return limit > used ? limit - used : 0;
}

// MemAvailable and not MemFree: much of a busy host's memory may be cache, which the kernel gives back when it is
// asked.
std::size_t host_left() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::size_t kib = 0;
  std::string unit;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
    // Some rows have a unit and some have none.
    std::getline(file, unit);
  }
  return kUnlimited;
}

/// The first number in a file; "max", or no file, is none.
std::size_t number_in(const char* path) {
  std::ifstream file(path);
  std::size_t number = 0;
  return file >> number ? number : kUnlimited;
}

// Of version 2, as a container sees it: its own group is the root there. Outside of one the root has no limit, and that
// of a nested group is not looked for.
std::size_t group_left() {
  const std::size_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::size_t used = number_in("/sys/fs/cgroup/memory.current");
  return limit == kUnlimited || used == kUnlimited ? kUnlimited : less(limit, used);
}

// The first number of statm is the size of the whole address space in pages, which is what RLIMIT_AS bounds.
std::size_t address_space_left() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  const std::size_t pages = number_in("/proc/self/statm");
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return pages == kUnlimited ? kUnlimited : less(limit.rlim_cur, pages * page_bytes);
}

/// A limit, and what a person can do about it.
struct Left {
  std::size_t size_bytes;
  const char* whose;
  const char* advice;
};

Left least_left() {
  const std::array<Left, 3> all{{
      {host_left(), "the host", "take less, or more hosts"},
      {group_left(), "the control group", "raise its memory.max"},
      {address_space_left(), "the limit of address space", "raise it (ulimit -v)"},
  }};
  return *std::min_element(all.begin(), all.end(),
                           [](const Left& a, const Left& b) { return a.size_bytes < b.size_bytes; });
}

}  // namespace

std::size_t memory_left() {
  return least_left().size_bytes;
}

Status check_memory_left(std::size_t size_bytes) {
  const Left left = least_left();
  if (size_bytes <= left.size_bytes) return {};
  return {RESHARD_ERR_OUT_OF_MEMORY, fmt::format("{} bytes were asked for, and {} leaves {}; {}", size_bytes,
                                                 left.whose, left.size_bytes, left.advice)};
}

Status check_address_space(std::size_t size_bytes) {
  const std::size_t left = address_space_left();
  if (left == kUnlimited || (size_bytes <= left && left - size_bytes >= kSpaceForOthers)) return {};
  return {
      RESHARD_ERR_OUT_OF_MEMORY,
      fmt::format("mapping {} bytes of a peer needs that much address space and {} for the rest, and the limit of it "
                  "leaves {}; raise it (ulimit -v), or give sources in memory of the heap in place of "
                  "reshard_alloc (reshard_perf --alloc heap), which is sent and not mapped",
                  size_bytes, kSpaceForOthers, left)};
}

}  // namespace reshard
