// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/direct/direct.h"

#include <span>

#include "src/plan/direct/build.h"
#include "src/plan/first_groups.h"

namespace reshard::direct {
namespace {

void choose_first_groups(Plan* plan) {
  plan->first_groups.assign(static_cast<std::size_t>(plan->num_ranks), 0);
  if (!may_rotate(plan->options)) return;
  std::vector<std::span<const std::int32_t>> wanted;
  for (const Bundle& bundle : plan->bundles) wanted.emplace_back(plan->sets.ranks(bundle.destinations));
  const std::vector<std::int32_t> starts = spread_starts(*plan, std::move(wanted), plan->num_ranks);
  for (std::size_t rank = 0; rank < starts.size(); ++rank) {
    if (starts[rank] >= 0) plan->first_groups[rank] = starts[rank];
  }
}

}  // namespace

void choose_routes(Plan* plan) {
  add_routes({}, plan);
}

/// Sendings are as many as ranges, and needs go before routes are built: together they would be most of the planner's
/// memory.
void add_routes(const Kept& kept, Plan* plan) {
  if (plan->routes.empty()) choose_first_groups(plan);
  const Sendings sendings = choose_senders(*plan, needs_of(*plan, kept), kept);
  plan->certificate = sendings.certificate;
  build_routes(sendings, plan);
  plan->most_in_flight = kMostPeersPerPort;  // each rank has a port of its own
}

}  // namespace reshard::direct
