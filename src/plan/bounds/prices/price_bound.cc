// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sums of 128 bits hold. A tree enters each rank at most once, through ten resources at most: with 2^20 ranks and
// prices of 2^36 it pays less than 2^60, and all bytes of all bundles, less than 2^63, pay less than 2^123. Capacities
// are below 2^50, of some 2^23 resources: below 2^109 in all.
#include "src/plan/bounds/prices/price_bound.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "src/plan/bounds/prices/least_tree.h"
#include "src/plan/routing/audience.h"

namespace reshard::bounds {
namespace {

using Sum = PriceBound::Sum;

/// @param least what a byte of a bundle pays at least
template <typename Least>
PriceBound bound_with(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices,
                      const Least& least) {
  PriceBound out{0, 0};
  for (std::size_t r = 0; r < prices.size(); ++r) {
    if (prices[r] == 0 || fabric.capacities[r] == kUnlimited) continue;
    out.cost += Sum{prices[r]} * static_cast<std::uint64_t>(task.base_loads[r]);
    out.capacity += Sum{prices[r]} * static_cast<std::uint64_t>(fabric.capacities[r]);
  }
  if (out.capacity == 0) return {0, 1};
  for (const Piece& piece : task.pieces) {
    out.cost += Sum{least(at(task.bundles, piece.bundle))} * static_cast<std::uint64_t>(piece.bytes);
  }
  return out;
}

/// Whether no domain has ranks of both sets.
bool are_apart(const DomainSets& domains, std::int32_t a, std::int32_t b) {
  const auto [few, many] =
      domains.of(a).num_domains() < domains.of(b).num_domains() ? std::pair{a, b} : std::pair{b, a};
  const std::vector<std::int32_t>& of_few = domains.of(few).domains;
  return std::none_of(of_few.begin(), of_few.end(),
                      [&, other = many](std::int32_t domain) { return domains.touches(other, domain); });
}

}  // namespace

PriceBound price_bound(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices) {
  const routing::WayPrices ways(fabric, prices);
  LeastTree trees(fabric, ways);
  return bound_with(fabric, task, prices,
                    [&](const Bundle& bundle) { return trees.least(routing::Audience(task.domains, bundle)); });
}

PriceBound quick_price_bound(const routing::Fabric& fabric, const Task& task,
                             const std::vector<std::uint64_t>& prices) {
  const routing::WayPrices ways(fabric, prices);
  LeastTree trees(fabric, ways);
  std::unordered_map<std::int32_t, std::uint64_t> known;  // by destinations, of bundles that nobody near them holds
  return bound_with(fabric, task, prices, [&](const Bundle& bundle) {
    const bool is_apart = are_apart(task.domains, bundle.sources, bundle.destinations);
    if (const auto found = known.find(bundle.destinations); is_apart && found != known.end()) return found->second;
    const std::uint64_t least = trees.least_from_anywhere(routing::Audience(task.domains, bundle));
    if (is_apart) known.emplace(bundle.destinations, least);
    return least;
  });
}

}  // namespace reshard::bounds
