// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/landings.h"

namespace reshard {

/// Chooses for every byte that must cross ranks its sources, its way and its round: sets ranges, hops, routes, rounds,
/// first_groups, certificate and most_in_flight. Errors as reshard_plan_create documents.
Status choose_routes(Plan* plan);

/// What the routes of the plan are chosen on: its machine, or what split_slow_domains makes of it, or equal ranks where
/// the plan knows no machine.
Machine routing_machine(const Plan& plan);

/// The same for a plan that has routes already, which stay: adds what they do not do. `kept` says what they do.
Status add_routes(const Kept& kept, Plan* plan);

}  // namespace reshard
