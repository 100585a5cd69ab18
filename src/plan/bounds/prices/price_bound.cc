// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sums of 128 bits hold. A tree enters each rank at most once, through ten resources at most: with 2^20 ranks and
// prices of 2^36 it pays less than 2^60, and all bytes of all bundles, less than 2^63, pay less than 2^123. Capacities
// are below 2^50, of some 2^23 resources: below 2^109 in all.
#include "src/plan/bounds/prices/price_bound.h"

#include "src/plan/bounds/prices/least_tree.h"
#include "src/plan/routing/audience.h"

namespace reshard::bounds {

PriceBound price_bound(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices) {
  using Sum = PriceBound::Sum;
  const routing::WayPrices ways(fabric, prices);
  LeastTree trees(fabric, ways);
  PriceBound out{0, 0};
  for (std::size_t r = 0; r < prices.size(); ++r) {
    if (prices[r] == 0 || fabric.capacities[r] == kUnlimited) continue;
    out.cost += Sum{prices[r]} * static_cast<std::uint64_t>(task.base_loads[r]);
    out.capacity += Sum{prices[r]} * static_cast<std::uint64_t>(fabric.capacities[r]);
  }
  if (out.capacity == 0) return {0, 1};
  for (const Piece& piece : task.pieces) {
    const routing::Audience audience(task.domains, at(task.bundles, piece.bundle));
    out.cost += Sum{trees.least(audience)} * static_cast<std::uint64_t>(piece.bytes);
  }
  return out;
}

}  // namespace reshard::bounds
