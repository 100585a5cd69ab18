// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

namespace reshard {

/// False where LEMON was not found; then the functions below must not be called.
bool has_lemon();

struct LemonDemand {
  std::int64_t bytes = 0;
  std::vector<std::int32_t> sources;
};

/// The least T, in bytes of the source of the largest capacity, at which max-flow carries all demands in whole bytes.
std::int64_t lemon_min_level(const std::vector<LemonDemand>& demands, const std::vector<std::int64_t>& capacities,
                             const std::vector<std::int64_t>& base);

/// The least sum of cost[row * n + column] over the perfect matchings, by network simplex.
std::int64_t lemon_min_assignment(const std::vector<std::int64_t>& cost, std::int32_t n);

}  // namespace reshard
