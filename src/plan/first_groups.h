// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// With which group a receiver's order begins, where it accepts rotated orders and the groups come from different
// sources in turn (pipeline stages). If all began with group 0, one stage would send to all replicas while the others
// wait for their turn, and P stages would take up to P times as long.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Whether receivers may begin with different groups.
inline bool may_rotate(const PlanOptions& options) {
  return options.open_groups > 0 && options.order != GroupOrder::kFixed;
}

/// By party the group with which it begins; -1 for one that wants nothing. A party is whoever begins alike: a domain,
/// or a rank that is served alone. Counterparts in different replicas begin with different stages' groups, so that all
/// stages send at once.
/// @param wanted for each bundle the parties that want it, in an order that is the same for all bundles
std::vector<std::int32_t> spread_starts(const Plan& plan, std::vector<std::span<const std::int32_t>> wanted,
                                        std::int64_t num_parties);

}  // namespace reshard
