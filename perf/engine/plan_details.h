// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// These calls cost more than a report does, a simulation for instance, so they are made only for options that ask.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "reshard/reshard.h"

namespace reshard::perf {

// What the library says of a plan for a machine beyond its report; perf/README.md documents the keys.

/// Seconds that the plan takes in the simulation; the plan's report holds them from then on.
double simulate(reshard_plan_t plan);

/// Traffic by domains, use of the links over time, the routes of a bundle (-1: the largest that crosses the network).
nlohmann::json plan_details(reshard_plan_t plan, std::int64_t bundle);

/// What a run in stages on streams takes, with an NCCL that limits the operations of a group and with one that does
/// not.
nlohmann::json plan_streams(reshard_plan_t plan);

/// An order of the destination's ranks that moves fewer bytes.
nlohmann::json plan_advice(reshard_plan_t plan);

}  // namespace reshard::perf
