// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/report/simulate_plan.h"

namespace reshard {

/// When one group moved in a simulation, over all ranks.
struct GroupTime {
  std::int32_t group = 0;        ///< index in Plan::groups
  std::int64_t moved_bytes = 0;  ///< over all hops
  double start_s = 0;            ///< its first byte leaves
  double finish_s = 0;           ///< the last rank has all of it
};

/// The groups of which anything moves between ranks, in the plan's order. A route carries the groups one after the
/// other, in its receivers' order. Where open groups are limited each has a flow of its own; else a flow is the whole
/// route, which is taken to go evenly from its start to its finish: the simulation keeps no more of it.
std::vector<GroupTime> group_times(const Plan& plan, const Simulation& simulation);

}  // namespace reshard
