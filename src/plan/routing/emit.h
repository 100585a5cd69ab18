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

/// The same where the choice was made for one section: each of its hops is made by its twins, too, in the same route.
/// @param fabric that of the section
/// @param twins ranks by section and place
void emit_routes_of_sections(const Fabric& fabric, std::vector<Demand> demands,
                             const std::vector<std::vector<std::int32_t>>& twins, Plan* plan);

}  // namespace reshard::routing
