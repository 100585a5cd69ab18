// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

#include "src/plan/report/simulate_plan.h"

namespace reshard {

/// What a picture of the plan is drawn from, as JSON text (its keys: perf/README.md): traffic between domains,
/// utilisation over time, the routes of one bundle, the simulated flows.
/// @param bundle -1: the largest that crosses the network
Result<std::string> details_json(const Plan& plan, const Simulation& simulation, std::int64_t bundle);

}  // namespace reshard
