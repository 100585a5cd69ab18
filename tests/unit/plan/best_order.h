// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>

#include "tests/unit/plan/best_plan.h"

namespace reshard::testing {

/// How often a rank completes a group while others of its own wait for that: with n of them there are n + 1 phases, and
/// up to n! orders.
std::int64_t num_waits(std::size_t num_ranks, const std::map<Need, std::int64_t>& needs, std::int64_t open_groups);

/// The least time of any plan in which every rank takes the groups that it needs in ascending order, at most
/// `open_groups` of them begun and not complete at once. A rank keeps what it wants, and may pass it on at any later
/// time; a rank that only relays passes bytes on as they come.
///
/// Time is cut into phases: in each, every rank may take bytes of certain groups, and from one to the next one rank has
/// completed its earliest. All orders of these events are tried; for each, a linear program divides the bytes over all
/// trees, with a phase for every hop. Negative where no tree serves somebody. @pre few ranks, and num_waits() is small
double least_time_in_order(const Machine& machine, const std::map<Need, std::int64_t>& needs, const Limits& limits,
                           std::int64_t open_groups);

}  // namespace reshard::testing
