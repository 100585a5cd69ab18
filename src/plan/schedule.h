// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/domain_sets.h"
#include "src/plan/network.h"

namespace reshard {

/// Gives every route its rounds, by colouring the edges of the matrix of bytes between domains, and bounds the messages
/// in flight. The rounds order the windows; nobody waits for a round to end. Later hops of a chain follow the first by
/// one round each. What never leaves its domain is spread over all rounds: links are not scheduled. All routes are
/// coloured anew, also those that were kept of an older plan.
void schedule_routes(const Network& network, Plan* plan);

/// Sets first_groups: with which group each rank's order begins.
void choose_first_groups(const DomainSets& domains, const Network& network, Plan* plan);

}  // namespace reshard
