// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How many bytes pass each link, port and switch of the machine: what estimates, bounds and the choice between two
// routings are made of. By resource means by its number, Machine::resource().
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/plan.h"

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
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (plan.sets.contains(bundle.sources, rank)) visit(static_cast<std::int32_t>(b), rank);
    }
  }
}

/// Bytes that pass each resource of the plan's machine, in all. Of memory what is read and what is written, but for
/// packing into and out of staging: a window that is contiguous in memory needs none.
std::vector<std::int64_t> loads_of(const Plan& plan);

/// Whether the busiest resource takes longer with the loads `a` than with `b`. Exact, for choices rest on it.
bool is_busier(const Machine& machine, const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b);

/// The time the busiest of them takes, and which it is. Resources without a limit take none.
struct Busiest {
  double seconds = 0;
  std::int32_t resource = -1;
};
Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads);
/// The same among the resources of one kind.
Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads, ResourceKind kind);

}  // namespace reshard
