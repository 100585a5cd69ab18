// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/plan/plan.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {

/// Replaces the routes of a plan by random trees that deliver the same: the streams cut anywhere, random sources,
/// chains and fans of receivers, ranks in between that keep windows in staging; random rounds and delays; groups in
/// random orders that begin anywhere, some or all of them open at once; any number of slots and messages in flight.
void relay_at_random(Choices* choices, Plan* plan);

/// Appends a route of the whole bundle along `hops`, of which src, dst, parent and to_staging are given; the rest
/// follows: each hop one round after its parent, or in its round where that is to staging.
void append_route(std::int32_t bundle, std::vector<Hop> hops, Plan* plan);

/// A tensor on rank 0 that ranks 1 and 2 want, along the given hops, of four ranks; staging for few windows.
Plan along(const std::vector<Hop>& hops);
inline const std::vector<Hop> kThroughStaging = {{0, 3, -1, 0, 0, true}, {3, 1, 0}, {1, 2, 1}};
inline const std::vector<Hop> kChain = {{0, 1}, {1, 2, 0}};

}  // namespace reshard::testing
