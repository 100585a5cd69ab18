// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The stages of routing, one after the other, each of which answers one question for all bytes that must cross ranks:
// - choose_landings: by which port does a byte enter each domain that needs it?
// - choose_exits: which holder sends it, by which port, and who hands it on?
// - add_inside: what comes from neighbours that hold it?
// - build_routes: which hops are that, and which bytes share them?
// - schedule_routes: in which order do they move?
// The first two fill ports by water, and each takes what the one before decided as given. That is not optimal where
// ports in, ports out and uplinks bind together; the bounds printed beside the estimate tell when.
#include "src/plan/routing.h"

#include <fmt/format.h>

#include "src/plan/build_routes.h"
#include "src/plan/direct/direct.h"
#include "src/plan/inside.h"
#include "src/plan/loads.h"
#include "src/plan/routing/route_on_machine.h"
#include "src/plan/schedule.h"

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

Machine routing_machine(const Plan& plan) {
  if (!plan.splits_slow_domains) return *plan.options.machine;
  return split_slow_domains(*plan.options.machine).value_or(*plan.options.machine);
}

namespace {

/// Landings and passages are as many as routes, and each goes as soon as the next is made: together with the routes
/// they would be most of the planner's memory.
Status build_all_routes(const Network& network, const DomainSets& domains, const Kept& kept, Plan* plan) {
  Passages passages;
  {  // ends what choosing needs
    RESHARD_TRY(Landings landings, choose_landings(*plan, network, domains, kept));
    RESHARD_TRY(passages, choose_exits(*plan, network, domains, std::move(landings), kept));
  }
  add_inside(*plan, network, domains, kept, &passages);
  plan->certificate = passages.certificate;
  build_routes(network, domains, passages, plan);
  return {};
}

}  // namespace

Status choose_routes(Plan* plan) {
  if (plan->options.machine == nullptr) {
    direct::choose_routes(plan);
    return {};
  }
  RESHARD_TRY(check_machine(*plan));
  RESHARD_TRY(routing::route_on_machine(plan));
  schedule_routes(Network(*plan->options.machine), plan);
  return {};
}

Status choose_routes_again(const Plan& old, Plan* plan, Changes* changes) {
  routing::Rerouted rerouted;
  RESHARD_TRY(routing::reroute_on_machine(old, plan, &rerouted));
  changes->routed_bytes = rerouted.bytes;
  changes->rerouted_bytes = rerouted.bytes - rerouted.bytes_kept;
  schedule_routes(Network(*plan->options.machine), plan);
  return {};
}

Status add_routes(const Kept& kept, Plan* plan) {
  RESHARD_TRY(check_machine(*plan));
  const Machine machine = routing_machine(*plan);
  const Network network(machine);
  const DomainSets domains(network.machine, plan->sets);
  if (plan->routes.empty()) choose_first_groups(domains, network, plan);
  RESHARD_TRY(build_all_routes(network, domains, kept, plan));
  schedule_routes(network, plan);
  return {};
}

}  // namespace reshard
