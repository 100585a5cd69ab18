// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <set>
#include <utility>

#include "src/plan/plan.h"

namespace reshard::testing {

/// Bytes from rank to rank.
inline std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> legs(const Plan& plan) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> out;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      out[{hop.src, hop.dst}] += route.size_bytes;
    }
  }
  return out;
}

/// The ranks that receive anything, or have it already.
inline std::set<std::int32_t> destinations(const Plan& plan) {
  std::set<std::int32_t> ranks;
  for (const Bundle& bundle : plan.bundles) {
    ranks.insert(plan.sets.ranks(bundle.destinations).begin(), plan.sets.ranks(bundle.destinations).end());
  }
  return ranks;
}

}  // namespace reshard::testing
