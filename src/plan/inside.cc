// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What ranks take from neighbours that hold it: the last source that is chosen, since it touches no port. Holders of a
// domain that give the same bundles are one pool, filled over their links; what a taker gets is one section of the
// line, so that it has few holders to talk to. Only the givers' links are balanced: takers must take what they need in
// any case.
#include "src/plan/inside.h"

#include <algorithm>
#include <map>

#include "src/plan/line.h"
#include "src/plan/water_fill.h"

namespace reshard {
namespace {

/// What the same holders of a domain give to others in it. Wanted pairs are sorted by rank, so that what one rank takes
/// is one piece of the line.
struct Pool {
  std::vector<std::int32_t> holders;
  std::vector<std::pair<std::int32_t, std::int32_t>> wanted;  ///< (rank, bundle)
  std::int64_t bytes = 0;
};

using Pools = std::map<std::vector<std::int32_t>, Pool>;  // by holders

Pools collect(const Plan& plan, const DomainSets& domains, const Kept& kept) {
  Pools pools;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    const RanksByDomain& holders = domains.of(bundle.sources);
    const RanksByDomain& wanted = domains.of(bundle.destinations);
    for (std::size_t i = 0; i < wanted.num_domains(); ++i) {
      const std::ptrdiff_t place = holders.find(wanted.domains[i], domains.place_of_domain());
      if (place < 0) continue;
      const auto here = holders.ranks_of(static_cast<std::size_t>(place));
      Pool* pool = nullptr;
      for (const std::int32_t rank : wanted.ranks_of(i)) {
        if (plan.sets.contains(bundle.sources, rank) || kept.serves(static_cast<std::int32_t>(b), rank)) continue;
        if (pool == nullptr) pool = &pools[{here.begin(), here.end()}];
        pool->wanted.push_back({rank, static_cast<std::int32_t>(b)});
        pool->bytes += bundle.size_bytes;
      }
    }
  }
  return pools;
}

}  // namespace

void add_inside(const Plan& plan, const Network& network, const DomainSets& domains, const Kept& kept,
                Passages* passages) {
  if (plan.options.machine == nullptr) return;  // nobody has neighbours
  Pools pools = collect(plan, domains, kept);
  std::vector<Demand> demands;
  for (auto& [holders, pool] : pools) {
    std::sort(pool.wanted.begin(), pool.wanted.end());
    demands.push_back({pool.bytes, holders});
  }
  std::vector<std::int64_t> capacities;
  for (const Machine::Gpu& gpu : network.machine.gpus) {
    capacities.push_back(std::max<std::int64_t>(1, gpu.link.bytes_per_s()));  // those without a limit are all alike
  }
  const WaterFill fill = water_fill(demands, capacities);
  std::size_t p = 0;
  for (const auto& entry : pools) {  // no structured binding: clang 14 does not let lambdas use one
    const std::vector<std::int32_t>& holders = entry.first;
    const Pool& pool = entry.second;
    Line line(plan);
    for (const auto& [rank, b] : pool.wanted) line.add({b, 0, at(plan.bundles, b).size_bytes}, rank);
    line.divide(fill.shares[p], fill.level / 100, [&](std::size_t part, std::size_t index, const Range& range) {
      passages->all.push_back({holders[part], holders[part], range,
                               static_cast<std::int64_t>(passages->landings.size()), 1, Relation::kNeighbour});
      passages->landings.push_back(pool.wanted[index].first);
    });
    ++p;
  }
}

}  // namespace reshard
