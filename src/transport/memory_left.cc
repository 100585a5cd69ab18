// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/memory_left.h"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace reshard {
namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

std::size_t less(std::size_t limit, std::size_t used) {
  return limit > used ? limit - used : 0;
}

std::size_t host_left() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::size_t kib = 0;
  std::string unit;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
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

std::size_t group_left() {
  const std::size_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::size_t used = number_in("/sys/fs/cgroup/memory.current");
  return limit == kUnlimited || used == kUnlimited ? kUnlimited : less(limit, used);
}

std::size_t address_space_left() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  const std::size_t pages = number_in("/proc/self/statm");
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return pages == kUnlimited ? kUnlimited : less(limit.rlim_cur, pages * page_bytes);
}

}  // namespace

std::size_t memory_left() {
  return std::min({host_left(), group_left(), address_space_left()});
}

Status check_memory_left(std::size_t size_bytes) {
  const std::size_t left = memory_left();
  if (size_bytes <= left) return {};
  return {
      RESHARD_ERR_OUT_OF_MEMORY,
      fmt::format("{} bytes were asked for, and the host, its control group or the process's limit of address space "
                  "leaves {}",
                  size_bytes, left)};
}

}  // namespace reshard
