// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>

#include "src/plan/plan.h"

namespace reshard {

/// Writes lists of ranges into a plan, each once: replicas of a server get the same from a source, so that of 12
/// million ranges from 2048 shards to 64 replicas few hundred thousand stay. The plan must outlive it.
class RangeLists {
 public:
  explicit RangeLists(Plan* plan) : plan_(*plan) {}

  /// Where the list begins in Plan::ranges, at whose end it is added if it was not given before.
  std::int64_t place_of(std::span<const Range> ranges);

 private:
  Plan& plan_;
  std::unordered_multimap<std::uint64_t, std::pair<std::int64_t, std::size_t>> known_;  // by hash: first, number
};

}  // namespace reshard
