// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How many bytes pass each link, port and switch of the machine: what estimates, bounds and reports are made of. By
// resource means by its number, Machine::resource().
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/plan.h"
#include "src/plan/routing/uses.h"

namespace reshard {

/// Bytes of one route that belong to one completion group.
struct GroupBytes {
  std::int32_t group = 0;
  std::int64_t bytes = 0;
};

/// How the bytes of ranges divide over groups. Made once for a plan: bundles that are composed alike share a list of
/// runs.
class GroupSplitter {
 public:
  explicit GroupSplitter(const Plan& plan);
  /// Adds what the range has of each group, ascending.
  void split(const Range& range, std::vector<GroupBytes>* out) const;

 private:
  struct Run {
    std::int32_t group;
    std::int64_t end;  ///< in the bundle's stream
  };
  std::vector<std::vector<Run>> runs_;    // by pattern: bundles that are composed alike divide alike
  std::vector<std::int32_t> pattern_of_;  // by bundle
};

/// Calls visit(bundle, rank) for every rank that wants a bundle and holds it: in every plan it copies it from its
/// memory to its memory.
template <typename Visit>
void for_each_local_copy(const Plan& plan, const Visit& visit) {
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    const std::vector<std::int32_t>& sources = plan.sets.ranks(bundle.sources);
    const std::vector<std::int32_t>& destinations = plan.sets.ranks(bundle.destinations);
    if (destinations.empty()) continue;
    auto source = std::lower_bound(sources.begin(), sources.end(), destinations.front());
    for (const std::int32_t rank : destinations) {
      while (source != sources.end() && *source < rank) ++source;
      if (source == sources.end()) break;
      if (*source == rank) visit(static_cast<std::int32_t>(b), rank);
    }
  }
}

/// Bytes that are carried together: by a route, all of whose hops carry all of them, or within the memory of a rank
/// that wants what it holds.
struct Cargo {
  std::span<const Range> ranges;
  std::int64_t size_bytes = 0;
  std::int32_t first_group = 0;  ///< with which the order of those who get them begins
};

/// Calls visit(cargo, uses) for every route and every copy within memory; a resource stands in `uses` as often as the
/// bytes pass it. @pre the plan has a machine
template <typename Visit>
void for_each_cargo(const Plan& plan, const Visit& visit) {
  const Machine& machine = *plan.options.machine;
  const routing::Fabric fabric(machine);
  const routing::Uses uses_of(fabric);
  std::vector<std::int32_t> uses;
  for (const Route& route : plan.routes) {
    uses.clear();
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = plan.begin_hops(route)[h];
      uses_of.for_each(RankId(hop.src), RankId(hop.dst), [&](std::int32_t resource) { uses.push_back(resource); });
    }
    visit(Cargo{plan.ranges_of(route), route.size_bytes, route.first_group}, uses);
  }
  for_each_local_copy(plan, [&](std::int32_t bundle, std::int32_t rank) {
    uses.clear();
    machine.append_uses(RankId(rank), RankId(rank), &uses);
    if (uses.empty()) return;
    const Range range{bundle, 0, at(plan.bundles, bundle).size_bytes};
    visit(Cargo{{&range, 1}, range.end, at(plan.first_groups, rank)}, uses);
  });
}

/// Bytes that pass each resource of the plan's machine, in all. Of memory what is read and what is written, but for
/// packing into and out of staging: a window that is contiguous in memory needs none.
std::vector<std::int64_t> loads_of(const Plan& plan);

/// The time the busiest of them takes, and which it is. Resources without a limit take none.
struct Busiest {
  double seconds = 0;
  std::int32_t resource = -1;
};
Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads);
/// The same among the resources of one kind.
Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads, ResourceKind kind);

}  // namespace reshard
