// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The words of routing, which all of its stages use:
// - domain: ranks that reach each other without the network. Between domains bytes go from port to port: a crossing.
// - part: a rank's part of the port it shares with others, in bytes per second.
// - level: how long a rank's part is busy, as bytes that the fastest part of the ranks compared carries in that time.
// It is a
//   time in whole numbers: ranks are compared by it, whatever their ports.
// - landing: the rank at which bytes enter a domain. The keeper: the rank of that domain with which they come to stay
//   first; most often the landing itself.
// - origin: the holder that bytes are read from. Exit: the rank by whose port they leave its domain.
// - staging: memory for windows that only pass through a rank: at an exit that is not the origin, or at a landing that
//   is not the keeper.
// - chain: domains that hand the same bytes on, each to the next.
// - pool: what the same ranks may carry, and so one demand of water-filling.
#pragma once

#include "src/plan/landings.h"
#include "src/plan/replan.h"

namespace reshard {

/// Chooses for every byte that must cross ranks its sources, its way and its round: sets ranges, hops, routes, rounds,
/// first_groups, certificate and most_in_flight. Errors as reshard_plan_create documents.
Status choose_routes(Plan* plan);

/// What the routes of the plan are chosen on: its machine, or what split_slow_domains makes of it. @pre the plan has
/// one
Machine routing_machine(const Plan& plan);

/// The same on the machine of an older plan, from its trees; sets routed_bytes and rerouted_bytes. @pre the plan has a
/// machine
Status choose_routes_again(const Plan& old, Plan* plan, Changes* changes);

/// The same for a plan on a machine that has routes already, which stay: adds what they do not do. `kept` says what
/// they do.
Status add_routes(const Kept& kept, Plan* plan);

}  // namespace reshard
