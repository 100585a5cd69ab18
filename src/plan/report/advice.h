// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Which destination rank should take which place in the destination layout so that the fewest bytes move. A byte that
/// changes its rank counts once, and once more if it enters a domain that has not got it.
struct Advice {
  std::vector<std::int32_t> ranks;  ///< destination ranks, ascending
  std::vector<std::int32_t> takes;  ///< for each of them, whose place it should take
  std::int64_t moved_bytes_now = 0;
  std::int64_t moved_bytes_best = 0;
  std::int64_t network_bytes_now = 0;  ///< 0 without a machine
  std::int64_t network_bytes_best = 0;
};

/// Most ranks that are assigned: the optimum takes time in their cube.
inline constexpr std::int32_t kMostAdvisedRanks = 1250;

/// RESHARD_ERR_NOT_SUPPORTED above kMostAdvisedRanks destination ranks.
Result<Advice> advise_ranks(const Plan& plan);

}  // namespace reshard
