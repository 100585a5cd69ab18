// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/direct/direct.h"

#include "src/plan/direct/build.h"
#include "src/plan/direct/first_groups.h"

namespace reshard::direct {

void choose_routes(Plan* plan) {
  add_routes({}, plan);
}

/// Sendings are as many as ranges, and needs go before routes are built: together they would be most of the planner's
/// memory.
void add_routes(const Kept& kept, Plan* plan) {
  if (plan->routes.empty()) choose_first_groups(plan);
  const Sendings sendings = choose_senders(*plan, needs_of(*plan, kept), kept);
  build_routes(sendings, plan);
  plan->most_in_flight = kMostPeersPerPort;  // each rank has a port of its own
}

}  // namespace reshard::direct
