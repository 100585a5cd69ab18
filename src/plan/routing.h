// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/replan.h"

namespace reshard {

/// Chooses for every byte that must cross ranks its sources, its way and its round: sets ranges, hops, routes, rounds,
/// first_groups and most_in_flight. Errors as reshard_plan_create documents.
Status choose_routes(Plan* plan);

/// The same on the machine of an older plan, from its trees; sets routed_bytes and rerouted_bytes. @pre the plan has a
/// machine
Status choose_routes_again(const Plan& old, Plan* plan, Changes* changes);

}  // namespace reshard
