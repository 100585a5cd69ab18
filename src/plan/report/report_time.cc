// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Times and loads of a plan with a machine, from its estimate. Link classes and ports answer the question that follows
// "why so slow?": is one port busier than the others (a plan that could be better), or all of a class (a machine that
// could be)?
#include "src/plan/report/report_time.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/plan/report/compare.h"

namespace reshard {
namespace {

using nlohmann::json;

json bounds_json(const Estimate& estimate) {
  json out = json::array();
  for (const Bound& bound : estimate.bounds) {
    out.push_back({{"name", bound.name}, {"resource", bound.resource}, {"seconds", bound.seconds}});
  }
  return out;
}

/// Bytes of each kind of resource, and the time of the busiest one of the kind. `used` and the capacity of all beside
/// it show how much of the machine the plan leaves idle; kinds that nothing passes are left out.
json classes_json(const Machine& machine, const Estimate& estimate) {
  json out = json::array();
  for (int k = 0; k < kNumResourceKinds; ++k) {
    const auto kind = static_cast<ResourceKind>(k);
    std::int64_t bytes = 0;
    std::int64_t used = 0;
    std::int64_t rate = 0;
    const std::int32_t end =
        k + 1 < kNumResourceKinds ? machine.resource(static_cast<ResourceKind>(k + 1), 0) : machine.num_resources();
    for (std::int32_t r = machine.resource(kind, 0); r < end; ++r) {
      bytes += at(estimate.loads, r);
      used += at(estimate.loads, r) > 0 ? 1 : 0;
      rate += machine.link_of(r).bytes_per_s();
    }
    const Busiest most = busiest(machine, estimate.loads, kind);
    if (bytes == 0) continue;
    out.push_back({{"class", name(kind)},
                   {"bytes", bytes},
                   {"used", used},
                   {"capacity_bytes_per_s", rate},
                   {"busiest_seconds", most.seconds},
                   {"busiest", most.resource < 0 ? "" : machine.describe(most.resource)}});
  }
  return out;
}

/// Bytes by the way they take, and what relays do. A crossing with delay 0 is the first of its route, so its bytes come
/// from a source; others were forwarded, and the largest delay and one is the number of domains in the longest chain.
json routes_json(const Plan& plan) {
  const Machine& machine = *plan.options.machine;
  std::int64_t network = 0;
  std::int64_t inside = 0;
  std::int64_t forwarded = 0;
  std::int64_t staged = 0;
  std::int64_t longest = 0;
  std::int64_t from_sources = 0;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      const bool is_inside = machine.same_domain(RankId(hop.src), RankId(hop.dst));
      (is_inside ? inside : network) += route.size_bytes;
      if (hop.to_staging) staged += route.size_bytes;
      if (is_inside) continue;
      (hop.delay > 0 ? forwarded : from_sources) += route.size_bytes;
      longest = std::max<std::int64_t>(longest, hop.delay + 1);
    }
  }
  return {{"bytes_network", network},     {"bytes_inside_domains", inside},  {"bytes_from_sources", from_sources},
          {"bytes_forwarded", forwarded}, {"bytes_through_staging", staged}, {"longest_chain", longest}};
}

/// Bytes over the network out of the ports of sources and into those of receivers: max / mean, in time, over all ports
/// that sources (or receivers) have, idle ones too: 1 is a plan that keeps all of them busy to the end.
json ports_json(const Plan& plan, const Estimate& estimate, ResourceKind kind) {
  const Machine& machine = *plan.options.machine;
  std::vector<bool> is_one(machine.ports.size());
  for (const Bundle& bundle : plan.bundles) {
    for (const std::int32_t rank :
         plan.sets.ranks(kind == ResourceKind::kNicOut ? bundle.sources : bundle.destinations)) {
      if (at(machine.gpus, rank).port >= 0) is_one[static_cast<std::size_t>(at(machine.gpus, rank).port)] = true;
    }
  }
  double most = 0;
  double bytes = 0;
  double rate = 0;
  for (std::size_t p = 0; p < is_one.size(); ++p) {
    if (!is_one[p]) continue;
    const std::int32_t resource = machine.resource(kind, static_cast<std::int32_t>(p));
    const auto mine = static_cast<double>(machine.link_of(resource).bytes_per_s());
    if (mine == 0) continue;
    most = std::max(most, static_cast<double>(at(estimate.loads, resource)) / mine);
    bytes += static_cast<double>(at(estimate.loads, resource));
    rate += mine;
  }
  const double mean = rate > 0 ? bytes / rate : 0;
  return {{"max_seconds", most}, {"mean_seconds", mean}, {"max_over_mean", mean > 0 ? most / mean : 1.0}};
}

/// `over_estimate` is how many times as long the other way takes at least.
json comparison_json(const Plan& plan, const Estimate& estimate) {
  json out = json::array();
  for (const OtherWay& way : other_ways(plan)) {
    out.push_back({{"name", way.name},
                   {"bytes_network", way.bytes_network},
                   {"seconds", way.seconds},
                   {"over_estimate", estimate.seconds > 0 ? way.seconds / estimate.seconds : 1.0},
                   {"resource", way.resource}});
  }
  return out;
}

}  // namespace

json time_json(const Plan& plan, const Estimate& estimate) {
  const Machine& machine = *plan.options.machine;
  json out = {{"machine", machine.name},
              {"nodes", machine.nodes.size()},
              {"domains", machine.domains.size()},
              {"estimate_seconds", estimate.seconds},
              {"fill_seconds", estimate.fill_seconds},
              {"binding_resource", estimate.resource},
              {"bound_seconds", estimate.bound.seconds},
              {"bound_name", estimate.bound.name},
              {"bound_resource", estimate.bound.resource},
              {"bounds", bounds_json(estimate)},
              {"link_classes", classes_json(machine, estimate)},
              {"ports_out", ports_json(plan, estimate, ResourceKind::kNicOut)},
              {"ports_in", ports_json(plan, estimate, ResourceKind::kNicIn)},
              {"traffic", routes_json(plan)},
              {"comparison", comparison_json(plan, estimate)},
              {"group_order", plan.options.order == GroupOrder::kFixed     ? "fixed"
                              : plan.options.order == GroupOrder::kRotated ? "rotated"
                                                                           : "any"},
              {"open_groups", plan.options.open_groups}};
  if (estimate.multicast_seconds.has_value()) out["multicast_seconds"] = *estimate.multicast_seconds;
  return out;
}

}  // namespace reshard
