// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sums of 128 bits hold. A tree enters each rank at most once, through ten resources at most: with 2^20 ranks and
// prices of 2^36 it pays less than 2^60, and all bytes of all bundles, less than 2^63, pay less than 2^123. Capacities
// are below 2^50, of some 2^23 resources: below 2^109 in all.
#include "src/plan/bounds/prices/price_bound.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "src/plan/bounds/prices/few_receivers.h"
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

// Cheapest ways look at all ranks of the machine, for each bundle: not of larger ones.
constexpr std::size_t kMostRanks = 1024;
// What looking at a rank costs there, and elsewhere at a holder.
constexpr std::size_t kWorkOfWays = 4;
constexpr std::size_t kWorkOfTrees = 3;

/// The least that a byte pays of each bundle, by whatever proves most of those that are worth their time.
class Least {
 public:
  Least(const routing::Fabric& fabric, const Task& task, bool is_thorough, const routing::WayPrices& ways)
      : fabric_(fabric),
        task_(task),
        is_exact_(is_thorough && fabric.machine.rail_isolated && fabric.ranks.size() <= kMostRanks),
        trees_(fabric, ways),
        few_(fabric, ways) {
    for (const Piece& piece : task.pieces) {
      const Bundle& bundle = at(task.bundles, piece.bundle);
      const std::size_t num_receivers = task.domains.of(bundle.destinations).ranks.size();
      if (num_receivers <= 1) work_of_trees_[bundle.sources] += kWorkOfTrees * holders(bundle).size();
    }
  }

  std::uint64_t of(const Bundle& bundle) {
    const routing::Audience audience(task_.domains, bundle);
    if (audience.num_lacking() == 1 && is_worth_ways(bundle)) return way(bundle, audience);
    const std::uint64_t least = trees_.least(audience);
    return is_exact_ && audience.num_lacking() > 0 ? std::max(least, few_.least(audience)) : least;
  }

 private:
  std::span<const std::int32_t> holders(const Bundle& bundle) const { return task_.domains.of(bundle.sources).ranks; }

  /// All ways from some holders are found at once, for all bundles that have them.
  bool is_worth_ways(const Bundle& bundle) const {
    if (is_exact_) return true;
    const auto found = work_of_trees_.find(bundle.sources);
    return found != work_of_trees_.end() && found->second >= kWorkOfWays * fabric_.ranks.size();
  }

  std::uint64_t way(const Bundle& bundle, const routing::Audience& audience) {
    const auto [entry, is_new] = ways_from_.try_emplace(bundle.sources);
    if (is_new) entry->second = few_.ways_from(holders(bundle));
    for (const routing::Audience::Place& place : audience.places()) {
      if (!place.lacking.empty()) return entry->second[RankId(place.lacking.front())];
    }
    return 0;
  }

  const routing::Fabric& fabric_;
  const Task& task_;
  bool is_exact_;  // where exact ways are worth their time for each bundle
  LeastTree trees_;
  FewReceivers few_;
  std::map<std::int32_t, std::size_t> work_of_trees_;       // for one receiver each, by set of holders
  std::map<std::int32_t, CheapestWays::ByRank> ways_from_;  // by set of holders
};

PriceBound bound_of(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices,
                    bool is_thorough) {
  const routing::WayPrices ways(fabric, prices);
  Least least(fabric, task, is_thorough, ways);
  return bound_with(fabric, task, prices, [&](const Bundle& bundle) { return least.of(bundle); });
}

}  // namespace

PriceBound price_bound(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices) {
  return bound_of(fabric, task, prices, false);
}

PriceBound thorough_price_bound(const routing::Fabric& fabric, const Task& task,
                                const std::vector<std::uint64_t>& prices) {
  return bound_of(fabric, task, prices, true);
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
