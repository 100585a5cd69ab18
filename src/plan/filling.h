// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/paths.h"
#include "src/plan/plan.h"

namespace reshard {

/// How long after the others the last bytes come to the end of a hop, in picoseconds: latencies, and what ranks wait
/// for whole windows.
struct Filling {
  std::int64_t latency = 0;
  std::int64_t waiting = 0;
  std::int64_t total() const { return latency + waiting; }
};

/// The filling of each of a route's hops. In integers, since ranks must agree to the byte on the windows that follow
/// from it.
///
/// A rank sends a window on when it has all of it, and to one receiver after the other where they are behind the same
/// link: the last of n has it n windows' time later, and after the last window of all nothing else fills that time.
/// Only what the first hops take is a part of what the busiest resource takes.
class FillingCounter {
 public:
  explicit FillingCounter(const Plan& plan) : plan_(plan), paths_(*plan.options.machine) {}

  /// With windows of so many bytes; by hop, valid until the next call.
  const std::vector<Filling>& count(const Route& route, std::int64_t window_bytes);

 private:
  const Plan& plan_;
  const Paths paths_;
  std::vector<Filling> of_hop_;
  /// By hop: how many hops so far pass its bytes on inside a domain, and over the network.
  std::vector<std::array<std::int64_t, 2>> num_passed_on_;
};

constexpr std::int64_t kPicosecondsPerNanosecond = 1000;
constexpr std::int64_t kPicosecondsPerSecond = 1'000'000'000'000;

/// Of so many bytes at a rate; 0 where nothing limits it (Paths::kNoLimit).
std::int64_t picoseconds(std::int64_t bytes, std::int64_t bytes_per_s);

}  // namespace reshard
