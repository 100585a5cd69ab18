// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing.h"

#include <fmt/format.h>

#include "src/plan/build_routes.h"
#include "src/plan/inside.h"
#include "src/plan/schedule.h"

namespace reshard {

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
  return add_routes({}, plan);
}

Status add_routes(const Kept& kept, Plan* plan) {
  const PlanOptions& options = plan->options;
  if (options.machine != nullptr && options.machine->num_ranks() != plan->num_ranks) {
    return {RESHARD_ERR_LAYOUT_MISMATCH, fmt::format("the machine has {} ranks and the layouts have {}",
                                                     options.machine->num_ranks(), plan->num_ranks)};
  }
  const Machine unknown = options.machine == nullptr ? unknown_machine(plan->num_ranks) : Machine();
  const Network network(options.machine == nullptr ? unknown : *options.machine);
  const DomainSets domains(network.machine, plan->sets);
  if (plan->routes.empty()) choose_first_groups(domains, network, plan);
  RESHARD_TRY(build_all_routes(network, domains, kept, plan));
  schedule_routes(network, plan);
  return {};
}

}  // namespace reshard
