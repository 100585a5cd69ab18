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
#include "src/plan/schedule.h"

namespace reshard {
namespace {

/// What routing decides of a plan.
struct Choices {
  std::vector<Range> ranges;
  std::vector<Hop> hops;
  Routes routes;
  std::vector<std::int32_t> rounds;
  std::vector<std::int32_t> first_groups;
  Certificate certificate;
  std::int32_t most_in_flight = 1;
  bool splits_slow_domains = false;
};

/// Swaps: a copy would be a third set of choices, and of a large plan they are most of its memory.
void exchange_choices(Plan* plan, Choices* choices) {
  std::swap(plan->ranges, choices->ranges);
  std::swap(plan->hops, choices->hops);
  std::swap(plan->routes, choices->routes);
  std::swap(plan->rounds, choices->rounds);
  std::swap(plan->first_groups, choices->first_groups);
  std::swap(plan->certificate, choices->certificate);
  std::swap(plan->most_in_flight, choices->most_in_flight);
  std::swap(plan->splits_slow_domains, choices->splits_slow_domains);
}

/// Where copies from outside are quicker than those from a neighbour, routes are chosen a second time, with such
/// domains taken apart, and the plan keeps what leaves the busiest resource of the true machine less busy: a rank that
/// takes its own copy also costs its sources one.
void try_split_domains(Plan* plan) {
  if (!split_slow_domains(*plan->options.machine).has_value()) return;
  Choices whole;
  exchange_choices(plan, &whole);
  plan->splits_slow_domains = true;
  const bool is_routed = add_routes({}, plan).ok();  // isolated rails may not join single ranks
  const std::vector<std::int64_t> loads_split = is_routed ? loads_of(*plan) : std::vector<std::int64_t>();
  exchange_choices(plan, &whole);
  if (is_routed && is_busier(*plan->options.machine, loads_of(*plan), loads_split)) exchange_choices(plan, &whole);
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
  RESHARD_TRY(add_routes({}, plan));
  try_split_domains(plan);
  return {};
}

Status add_routes(const Kept& kept, Plan* plan) {
  const PlanOptions& options = plan->options;
  if (options.machine->num_ranks() != plan->num_ranks) {
    return {RESHARD_ERR_LAYOUT_MISMATCH, fmt::format("the machine has {} ranks and the layouts have {}",
                                                     options.machine->num_ranks(), plan->num_ranks)};
  }
  const Machine machine = routing_machine(*plan);
  const Network network(machine);
  const DomainSets domains(network.machine, plan->sets);
  if (plan->routes.empty()) choose_first_groups(domains, network, plan);
  RESHARD_TRY(build_all_routes(network, domains, kept, plan));
  schedule_routes(network, plan);
  return {};
}

}  // namespace reshard
