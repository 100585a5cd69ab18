// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/plan/plan.h"
#include "src/plan/routing/solve.h"

namespace reshard::routing {

/// Makes routes of what was chosen: cuts each demand's bytes among its trees, and adds one route to the plan for each
/// tree, with the ranges of all demands that take it. Returns how many bytes stay with the tree that they had.
std::int64_t emit_routes(const Fabric& fabric, std::vector<Demand> demands, Plan* plan);

}  // namespace reshard::routing
