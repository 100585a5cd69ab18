// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/tree.h"
#include "tests/unit/plan/small_machine.h"

namespace reshard::testing {

/// One bundle by itself, as the router is asked for it.
struct AskedFor {
  AskedFor(const Machine& machine, const Need& need)
      : bundle{sets.intern(need.sources), sets.intern(need.destinations)}, domains(machine, sets) {}
  RankSets sets;
  Bundle bundle;
  DomainSets domains;
  routing::Audience audience{domains, bundle};
};

inline bool contains(const std::vector<std::int32_t>& ranks, std::int32_t rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

/// Whether bytes can go there in one hop.
inline bool is_joined(const Machine& machine, std::int32_t src, std::int32_t dst) {
  const RankId from(src);
  const RankId to(dst);
  if (machine.gpus[from].domain == machine.gpus[to].domain) return true;
  if (!machine.gpus[from].port.valid() || !machine.gpus[to].port.valid()) return false;
  const auto rail = [&](RankId rank) { return machine.ports[machine.gpus[rank].port].rail; };
  return !machine.rail_isolated || rail(from) == rail(to);
}

/// What is wrong with a tree for ranks that lack the bytes; empty: nothing is.
/// @param is_complete whether it has to serve all of them
inline std::string fault_of(const Machine& machine, const routing::Tree& tree, const Need& need,
                            bool is_complete = true) {
  std::vector<std::int32_t> served;
  for (std::size_t i = 0; i < tree.arcs.size(); ++i) {
    const routing::Tree::Arc& arc = tree.arcs[i];
    const std::string where = "arc " + std::to_string(i) + ": ";
    if (arc.parent >= static_cast<std::int32_t>(i)) return where + "its parent is not an earlier one";
    if (arc.parent < 0 && !contains(need.sources, arc.src)) return where + "its sender has no bytes";
    if (arc.parent >= 0 && tree.arcs[static_cast<std::size_t>(arc.parent)].dst != arc.src) {
      return where + "its parent leads elsewhere";
    }
    if (arc.src == arc.dst || !is_joined(machine, arc.src, arc.dst)) return where + "no way";
    if (contains(need.sources, arc.dst)) return where + "its receiver holds the bytes";
    if (contains(served, arc.dst)) return where + "its receiver has the bytes already";
    if (arc.to_staging == contains(need.lacking, arc.dst)) return where + "staging is flagged wrongly";
    served.push_back(arc.dst);
  }
  for (const std::int32_t rank : need.lacking) {
    if (is_complete && !contains(served, rank)) return "rank " + std::to_string(rank) + " goes without";
  }
  return {};
}

/// Arcs to ranks that do not want the bytes, and from which nothing goes on.
inline std::size_t num_idle(const routing::Tree& tree) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < tree.arcs.size(); ++i) {
    const bool goes_on = std::any_of(tree.arcs.begin(), tree.arcs.end(),
                                     [&](const auto& arc) { return arc.parent == static_cast<std::int32_t>(i); });
    count += tree.arcs[i].to_staging && !goes_on ? 1U : 0U;
  }
  return count;
}

}  // namespace reshard::testing
