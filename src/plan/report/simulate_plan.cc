// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Hands the plan to the fluid simulation of topology/fluid.h. One flow per route, for all of its hops move at the same
// pace; where open groups are limited one per route and group, as groups begin at different times. A resource that
// several hops of a route pass is used as often. What a rank takes from itself is a flow, too, through its memory
// alone.
#include "src/plan/report/simulate_plan.h"

#include <algorithm>
#include <map>

#include "src/plan/estimate.h"
#include "src/plan/loads.h"

namespace reshard {
namespace {

class PlanSimulator {
 public:
  explicit PlanSimulator(const Plan& plan)
      : plan_(plan), machine_(*plan.options.machine), fillings_(plan), splitter_(plan) {}

  Result<Simulation> run(std::int32_t num_buckets) {
    const std::int32_t num_resources = machine_.num_resources();
    for (std::int32_t r = 0; r < num_resources; ++r) traffic_.bytes_per_s.push_back(machine_.link_of(r).bytes_per_s());
    traffic_.open_limit = static_cast<std::int32_t>(plan_.options.open_groups);
    for (std::size_t r = 0; r < plan_.routes.size(); ++r) add(static_cast<std::int64_t>(r));
    add_local_copies();
    FluidOptions options;
    options.num_buckets = num_buckets;
    for (std::int32_t r = 0; r < num_resources; ++r)
      options.class_of.push_back(static_cast<std::int32_t>(machine_.kind_of(r)));
    RESHARD_TRY(const FluidResult result, simulate(traffic_, options));
    out_.seconds = result.makespan_s;
    for (std::size_t f = 0; f < out_.flows.size(); ++f) {
      out_.flows[f].start_s = result.start_s[f];
      out_.flows[f].finish_s = result.finish_s[f];
    }
    if (num_buckets > 0) read_timeline(result, num_buckets);
    return std::move(out_);
  }

 private:
  /// A route's flows. A flow ends when the last rank has all, so it begins as late as the first window comes to that
  /// one.
  void add(std::int64_t id) {
    const Route& route = at(plan_.routes, id);
    const std::vector<FluidUse> uses = uses_of(route);
    const auto latency_ns = static_cast<std::int64_t>(fill_seconds_of(route, plan_.window_bytes, &fillings_) * 1e9);
    for (const auto& [position, bytes] : parts_of(route)) {
      std::vector<Membership> memberships;
      if (plan_.options.open_groups > 0) memberships = memberships_of(route, position);
      traffic_.add({bytes, static_cast<double>(bytes), latency_ns}, uses, memberships);
      out_.flows.push_back({id, position, bytes, 0, 0});
    }
  }

  /// One flow per rank, or per rank and group. They stand behind those of the routes and are not among the
  /// simulation's flows, which tell of routes.
  void add_local_copies() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> bytes;  // by rank and place in the receivers' order
    for_each_local_copy(plan_, [&](std::int32_t id, std::int32_t rank) {
      if (!at(machine_.gpus, rank).memory.is_limited()) return;
      const std::int64_t size_bytes = at(plan_.bundles, id).size_bytes;
      if (plan_.options.open_groups == 0) {
        bytes[{rank, 0}] += size_bytes;
        return;
      }
      split_.clear();
      splitter_.split({id, 0, size_bytes}, &split_);
      for (const GroupBytes& part : split_) {
        bytes[{rank, plan_.position_of(part.group, at(plan_.first_groups, rank))}] += part.bytes;
      }
    });
    for (const auto& [place, sum] : bytes) {
      const auto [rank, position] = place;
      std::vector<Membership> memberships;
      if (plan_.options.open_groups > 0) memberships.push_back({at(machine_.gpus, rank).domain, position});
      traffic_.add({sum, static_cast<double>(sum), 0}, {{machine_.resource(ResourceKind::kMemory, rank), 2}},
                   memberships);
    }
  }

  /// How often each resource is passed, over all hops of the route.
  std::vector<FluidUse> uses_of(const Route& route) {
    std::map<std::int32_t, std::int32_t> times;
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      path_.clear();
      machine_.append_uses(RankId(plan_.begin_hops(route)[h].src), RankId(plan_.begin_hops(route)[h].dst), &path_);
      for (const std::int32_t resource : path_) ++times[resource];
    }
    std::vector<FluidUse> uses;
    for (const auto& [resource, count] : times) uses.push_back({resource, count});
    return uses;
  }

  /// Bytes of a route by place of their group in the receivers' order; all at 0 where nothing limits open groups.
  std::map<std::int32_t, std::int64_t> parts_of(const Route& route) {
    if (plan_.options.open_groups == 0) return {{0, route.size_bytes}};
    std::map<std::int32_t, std::int64_t> parts;
    for (const Range& range : plan_.ranges_of(route)) {
      split_.clear();
      splitter_.split(range, &split_);
      for (const GroupBytes& part : split_) parts[plan_.position_of(part.group, route.first_group)] += part.bytes;
    }
    return parts;
  }

  /// The domains that receive a flow, each with the place of its group in their order: it begins when all of them have
  /// room. Ranks that only stage it limit nothing.
  std::vector<Membership> memberships_of(const Route& route, std::int32_t position) const {
    std::vector<std::int32_t> receivers;
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan_.begin_hops(route)[h];
      if (!hop.to_staging) receivers.push_back(at(machine_.gpus, hop.dst).domain);
    }
    std::sort(receivers.begin(), receivers.end());
    receivers.erase(std::unique(receivers.begin(), receivers.end()), receivers.end());
    std::vector<Membership> out;
    for (const std::int32_t receiver : receivers) out.push_back({receiver, position});
    return out;
  }

  /// Rates of a kind over the capacity of those of its resources that the plan uses: unused ports would make a plan
  /// that is bound by a few look idle.
  void read_timeline(const FluidResult& result, std::int32_t num_buckets) {
    out_.bucket_seconds = result.makespan_s / num_buckets;
    std::vector<bool> is_used(traffic_.bytes_per_s.size());
    for (const FluidUse& use : traffic_.uses) is_used[static_cast<std::size_t>(use.resource)] = true;
    std::vector<double> capacity(kNumResourceKinds);
    for (std::size_t r = 0; r < is_used.size(); ++r) {
      if (is_used[r])
        at(capacity, static_cast<int>(machine_.kind_of(static_cast<std::int32_t>(r)))) +=
            static_cast<double>(traffic_.bytes_per_s[r]);
    }
    out_.utilisation.resize(kNumResourceKinds);
    for (std::size_t k = 0; k < out_.utilisation.size(); ++k) {
      for (std::int32_t b = 0; b < num_buckets; ++b) {
        const double rate = k < result.timeline.size() ? at(result.timeline[k], b) : 0;
        out_.utilisation[k].push_back(capacity[k] > 0 ? std::min(1.0, rate / capacity[k]) : 0);
      }
    }
  }

  const Plan& plan_;
  const Machine& machine_;
  FillingCounter fillings_;
  GroupSplitter splitter_;
  FluidTraffic traffic_;
  Simulation out_;
  std::vector<std::int32_t> path_;
  std::vector<GroupBytes> split_;
};

}  // namespace

Result<Simulation> simulate_plan(const Plan& plan, std::int32_t num_buckets) {
  return PlanSimulator(plan).run(num_buckets);
}

}  // namespace reshard
