// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sizes of what a picture can show are bounded here, not in the drawing: a plan of thousands of ranks has millions of
// routes, and its picture should still open.
#include "src/plan/report/details.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "src/plan/estimate.h"
#include "src/plan/report/group_times.h"

namespace reshard {
namespace {

using nlohmann::json;

// Enough for a picture; the rest would only make it heavy.
constexpr std::size_t kMostFlows = 20'000;
constexpr std::size_t kMostRoutes = 2'000;
constexpr std::size_t kMostTensors = 20;
constexpr std::size_t kMostGroups = 2'000;

json domains_json(const Machine& machine) {
  json out = json::array();
  for (const Machine::Domain& domain : machine.domains) {
    const std::int32_t first = at(machine.gpus, domain.ranks.front()).node;
    const std::int32_t last = at(machine.gpus, domain.ranks.back()).node;
    const std::string name = at(machine.nodes, first).name;
    out.push_back({{"name", first == last ? name : name + " to " + at(machine.nodes, last).name},
                   {"ranks", domain.ranks.size()}});
  }
  return out;
}

/// The picture's heat map: bytes from domain to domain, [from, to, bytes]; those that stay inside are on the diagonal.
json cells_json(const Plan& plan) {
  const Machine& machine = *plan.options.machine;
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> bytes;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      bytes[{at(machine.gpus, hop.src).domain, at(machine.gpus, hop.dst).domain}] += route.size_bytes;
    }
  }
  json out = json::array();
  for (const auto& [cell, sum] : bytes) out.push_back({cell.first, cell.second, sum});
  return out;
}

/// For each kind of resource, what part of its capacity was in use in each of equally long stretches of the simulated
/// time. Kinds that the plan never uses are left out.
json timeline_json(const Simulation& simulation) {
  json classes = json::array();
  for (std::size_t k = 0; k < simulation.utilisation.size(); ++k) {
    const std::vector<double>& values = simulation.utilisation[k];
    if (std::all_of(values.begin(), values.end(), [](double value) { return value == 0; })) continue;
    classes.push_back({{"class", name(static_cast<ResourceKind>(k))}, {"utilisation", values}});
  }
  return {{"bucket_seconds", simulation.bucket_seconds}, {"classes", std::move(classes)}};
}

/// When each group moved, the first ones of a plan that has very many.
json groups_json(const Plan& plan, const Simulation& simulation) {
  json out = json::array();
  for (const GroupTime& time : group_times(plan, simulation)) {
    if (out.size() == kMostGroups) break;
    out.push_back({{"group", at(plan.groups, time.group)},
                   {"bytes", time.moved_bytes},
                   {"start", time.start_s},
                   {"end", time.finish_s}});
  }
  return out;
}

/// A route as the edges of a tree: a picture hangs each hop under its parent.
json hops_json(const Plan& plan, const Route& route) {
  json out = json::array();
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop& hop = plan.begin_hops(route)[h];
    out.push_back({{"src", hop.src},
                   {"dst", hop.dst},
                   {"parent", hop.parent},
                   {"delay", hop.delay},
                   {"network", !plan.options.machine->same_domain(RankId(hop.src), RankId(hop.dst))},
                   {"to_staging", hop.to_staging}});
  }
  return out;
}

/// The bundle of most bytes over the network: of its own, times the domains it enters. What a caller who names no
/// bundle most likely wants to see; -1 where there are no routes.
std::int64_t largest_crossing(const Plan& plan) {
  std::map<std::int32_t, std::int64_t> bytes;
  for (const Route& route : plan.routes) {
    std::int64_t crossings = 0;
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      crossings += plan.options.machine->same_domain(RankId(hop.src), RankId(hop.dst)) ? 0 : 1;
    }
    for (const Range& range : plan.ranges_of(route)) {
      bytes[range.bundle] += crossings * (range.end - range.begin);
    }
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? -1 : most->first;
}

/// One bundle: what is in it, who has it, who wants it, and the trees by which it travels. A bundle of a thousand
/// layers is named by its first tensors.
json bundle_json(const Plan& plan, std::int64_t id) {
  if (id < 0) return nullptr;
  const Bundle& bundle = at(plan.bundles, id);
  json tensors = json::array();
  const Strands strands = plan.strands(bundle);
  for (std::size_t s = 0; s < strands.size() && s < kMostTensors; ++s) {
    tensors.push_back(at(plan.dst->tensors(), at(plan.tensors, strands[s].tensor).dst).name);
  }
  json routes = json::array();
  for (const Route& route : plan.routes) {
    std::int64_t bytes = 0;
    for (const Range& range : plan.ranges_of(route)) {
      if (range.bundle == id) bytes += range.end - range.begin;
    }
    if (bytes > 0 && routes.size() < kMostRoutes)
      routes.push_back({{"bytes", bytes}, {"hops", hops_json(plan, route)}});
  }
  return {{"id", id},
          {"bytes", bundle.size_bytes},
          {"tensors", std::move(tensors)},
          {"num_tensors", strands.size()},
          {"sources", plan.sets.ranks(bundle.sources)},
          {"destinations", plan.sets.ranks(bundle.destinations)},
          {"routes", std::move(routes)}};
}

/// The largest flows, with the first hop of their route: a tree is drawn where it begins.
json flows_json(const Plan& plan, const Simulation& simulation) {
  std::vector<std::size_t> order(simulation.flows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return simulation.flows[a].bytes > simulation.flows[b].bytes; });
  if (order.size() > kMostFlows) order.resize(kMostFlows);
  json out = json::array();
  for (const std::size_t f : order) {
    const SimulatedFlow& flow = simulation.flows[f];
    const Route& route = at(plan.routes, flow.route);
    const Hop& hop = *plan.begin_hops(route);
    out.push_back({{"route", flow.route},
                   {"src", hop.src},
                   {"dst", hop.dst},
                   {"position", flow.position},
                   {"bytes", flow.bytes},
                   {"start", flow.start_s},
                   {"end", flow.finish_s},
                   {"network", !plan.options.machine->same_domain(RankId(hop.src), RankId(hop.dst))}});
  }
  return out;
}

}  // namespace

Result<std::string> details_json(const Plan& plan, const Simulation& simulation, std::int64_t bundle) {
  const auto count = static_cast<std::int64_t>(plan.bundles.size());
  if (bundle < -1 || bundle >= count) {
    return invalid_argument(
        fmt::format("bundle {} does not exist; there are {}, and -1 is the largest", bundle, count));
  }
  const json out = {{"seconds", simulation.seconds},
                    {"domains", domains_json(*plan.options.machine)},
                    {"cells", cells_json(plan)},
                    {"timeline", timeline_json(simulation)},
                    {"groups", groups_json(plan, simulation)},
                    {"bundle", bundle_json(plan, bundle < 0 ? largest_crossing(plan) : bundle)},
                    {"flows", flows_json(plan, simulation)}};
  return out.dump();
}

}  // namespace reshard
