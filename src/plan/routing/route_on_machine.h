// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard::routing {

/// From here on, in hops, choosing trees for a whole job takes most of what planning may take.
inline constexpr std::int64_t kLargeJob = 100'000;

/// Chooses the routes of a plan that has a machine: sets ranges, hops, routes and first_groups. Errors as
/// reshard_plan_create documents.
/// @param large_job from how many hops on it is looked for sections of the job that are alike
Status route_on_machine(Plan* plan, std::int64_t large_job = kLargeJob);

/// How many bytes were routed, each counted once, and how many of them go by the tree that they had before.
struct Rerouted {
  std::int64_t bytes = 0;
  std::int64_t bytes_kept = 0;
};

/// The same from the trees of an older plan for the same machine: who is lost is cut out of them, who is new grows on,
/// and bytes move to other trees until the plan is nearly as quick as one made anew.
Status reroute_on_machine(const Plan& old, Plan* plan, Rerouted* rerouted);

}  // namespace reshard::routing
