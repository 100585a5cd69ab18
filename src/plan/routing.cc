// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Without a machine each rank sends straight to every other (direct/); on one, the router decides (routing/).
#include "src/plan/routing.h"

#include <fmt/format.h>

#include "src/plan/direct/direct.h"
#include "src/plan/routing/route_on_machine.h"
#include "src/plan/schedule/schedule.h"

namespace reshard {
namespace {

/// Whether plan and machine are of the same ranks.
Status check_machine(const Plan& plan) {
  const std::int32_t num_ranks = plan.options.machine->num_ranks();
  if (num_ranks == plan.num_ranks) return {};
  return {RESHARD_ERR_LAYOUT_MISMATCH,
          fmt::format("the machine has {} ranks and the layouts have {}", num_ranks, plan.num_ranks)};
}

}  // namespace

Status choose_routes(Plan* plan) {
  if (plan->options.machine == nullptr) {
    direct::choose_routes(plan);
    return {};
  }
  RESHARD_TRY(check_machine(*plan));
  RESHARD_TRY(routing::route_on_machine(plan));
  schedule_routes(plan);
  return {};
}

Status choose_routes_again(const Plan& old, Plan* plan, Changes* changes) {
  routing::Rerouted rerouted;
  RESHARD_TRY(routing::reroute_on_machine(old, plan, &rerouted));
  changes->routed_bytes = rerouted.bytes;
  changes->rerouted_bytes = rerouted.bytes - rerouted.bytes_kept;
  schedule_routes(plan);
  return {};
}

}  // namespace reshard
