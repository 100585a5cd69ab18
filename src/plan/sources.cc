// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/sources.h"

#include <algorithm>
#include <cstdlib>

#include "src/plan/water_fill.h"

namespace reshard {
namespace {

/// Line offsets [begin, end) of a pool that one source sends.
struct Share {
  std::int32_t rank = -1;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// All bundles with the same source holders: any of these can send any byte of them, so only the pool's total matters
/// for balance. Its line is the bytes that must cross ranks, by destination rank, each by ascending bundle.
struct Pool {
  std::int32_t sources = 0;           ///< id in Plan::sets
  std::vector<std::int32_t> bundles;  ///< ascending
  std::vector<std::int32_t> dsts;     ///< ranks that need bytes they do not hold, ascending
  std::vector<std::int64_t> starts;   ///< line offset of each of dsts; one more entry, the line's length
  std::vector<Share> shares;          ///< tile the line, in order
};

/// Bytes of a bundle's stream that one rank sends to another.
struct Flow {
  std::int32_t src = -1;
  std::int32_t dst = -1;
  Range range;
};

/// Calls visit(rank) for the destinations of a bundle that do not hold it already.
template <typename Visit>
void for_each_remote(const Plan& plan, const Bundle& bundle, const Visit& visit) {
  const auto& holders = plan.sets.ranks(bundle.sources);
  auto holder = holders.begin();
  for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
    while (holder != holders.end() && *holder < rank) ++holder;
    if (holder == holders.end() || *holder != rank) visit(rank);
  }
}

/// For each of pool.dsts the bundles on its part of the line, ascending.
std::vector<std::vector<std::int32_t>> bundles_by_dst(const Plan& plan, const Pool& pool) {
  std::vector<std::vector<std::int32_t>> out(pool.dsts.size());
  for (const std::int32_t id : pool.bundles) {
    auto place = pool.dsts.begin();
    for_each_remote(plan, at(plan.bundles, id), [&](std::int32_t rank) {
      place = std::lower_bound(place, pool.dsts.end(), rank);
      at(out, place - pool.dsts.begin()).push_back(id);
    });
  }
  return out;
}

/// Moves a wanted cut of a pool's line to the best place within `tolerance` bytes of it.
class Cutter {
 public:
  Cutter(const Plan& plan, const Pool& pool, std::int64_t tolerance)
      : plan_(plan), pool_(pool), bundles_(bundles_by_dst(plan, pool)), tolerance_(tolerance) {}

  std::int64_t cut(std::int64_t wanted) const {
    const auto after = std::upper_bound(pool_.starts.begin(), pool_.starts.end(), wanted);
    if (after == pool_.starts.end()) return pool_.starts.back();
    const std::int64_t begin = *(after - 1);
    const std::int64_t nearest = closer(wanted, begin, *after);
    if (std::abs(nearest - wanted) <= tolerance_) return nearest;
    return begin + cut_bundles(at(bundles_, after - 1 - pool_.starts.begin()), wanted - begin);
  }

 private:
  static std::int64_t closer(std::int64_t wanted, std::int64_t low, std::int64_t high) {
    return wanted - low <= high - wanted ? low : high;
  }

  /// `wanted` is an offset into the bundles laid end to end.
  std::int64_t cut_bundles(const std::vector<std::int32_t>& bundles, std::int64_t wanted) const {
    std::int64_t begin = 0;
    std::size_t i = 0;
    while (begin + at(plan_.bundles, bundles[i]).size_bytes <= wanted)
      begin += at(plan_.bundles, bundles[i++]).size_bytes;
    const Bundle& bundle = at(plan_.bundles, bundles[i]);
    const std::int64_t nearest = closer(wanted, begin, begin + bundle.size_bytes);
    if (std::abs(nearest - wanted) <= tolerance_) return nearest;
    return begin + cut_strands(bundle, wanted - begin);
  }

  std::int64_t cut_strands(const Bundle& bundle, std::int64_t wanted) const {
    const auto after = std::upper_bound(bundle.strands.begin(), bundle.strands.end(), wanted,
                                        [](std::int64_t offset, const Strand& s) { return offset < s.begin_bytes; });
    const Strand& strand = *(after - 1);
    const PlanTensor& tensor = at(plan_.tensors, strand.tensor);
    const AtomClass& atoms = at(plan_.classes, tensor.atom_class);
    std::int64_t begin = strand.begin_bytes;
    std::int32_t atom = strand.first_atom;
    const auto bytes = [&] { return at(atoms.atoms, atom).box.num_elements() * tensor.wire_bytes; };
    for (; begin + bytes() <= wanted; ++atom) begin += bytes();
    const std::int64_t nearest = closer(wanted, begin, begin + bytes());
    if (std::abs(nearest - wanted) <= tolerance_) return nearest;
    return begin + cut_rows(at(atoms.atoms, atom).box, tensor.wire_bytes, wanted - begin);
  }

  /// The nearest multiple of the largest row (sub-box of the inner dims) that is near enough; at last any element.
  std::int64_t cut_rows(const Box& box, std::int64_t element_bytes, std::int64_t wanted) const {
    std::int64_t row = box.num_elements() * element_bytes;
    for (int d = 0; d < box.num_dims; ++d) {
      row /= box.extent(d);
      const std::int64_t nearest = (wanted + row / 2) / row * row;
      if (std::abs(nearest - wanted) <= tolerance_) return nearest;
    }
    return wanted / element_bytes * element_bytes;
  }

  const Plan& plan_;
  const Pool& pool_;
  std::vector<std::vector<std::int32_t>> bundles_;
  std::int64_t tolerance_;
};

void cut_line(const Plan& plan, const std::vector<std::int64_t>& bytes, std::int64_t tolerance, Pool* pool) {
  const std::int64_t length = pool->starts.back();
  const auto& sources = plan.sets.ranks(pool->sources);
  const Cutter cutter(plan, *pool, tolerance);
  std::int64_t wanted = 0;
  std::int64_t begin = 0;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    wanted += bytes[s];
    const std::int64_t end = wanted >= length ? length : std::max(begin, cutter.cut(wanted));
    if (end > begin) pool->shares.push_back({sources[s], begin, end});
    begin = end;
  }
}

std::vector<Pool> make_pools(const Plan& plan) {
  std::vector<Pool> pools;
  std::unordered_map<std::int32_t, std::size_t> pool_of_sources;
  std::vector<std::vector<std::pair<std::int32_t, std::int64_t>>> needs;  // per pool: rank, bytes
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    bool is_remote = false;
    std::size_t pool = 0;
    for_each_remote(plan, bundle, [&](std::int32_t rank) {
      if (!is_remote) {
        const auto [entry, is_new] = pool_of_sources.emplace(bundle.sources, pools.size());
        if (is_new) {
          pools.emplace_back().sources = bundle.sources;
          needs.emplace_back();
        }
        pool = entry->second;
        pools[pool].bundles.push_back(static_cast<std::int32_t>(b));
        is_remote = true;
      }
      needs[pool].push_back({rank, bundle.size_bytes});
    });
  }
  for (std::size_t p = 0; p < pools.size(); ++p) {
    std::stable_sort(needs[p].begin(), needs[p].end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::int64_t position = 0;
    for (const auto& [rank, bytes] : needs[p]) {
      if (pools[p].dsts.empty() || pools[p].dsts.back() != rank) {
        pools[p].dsts.push_back(rank);
        pools[p].starts.push_back(position);
      }
      position += bytes;
    }
    pools[p].starts.push_back(position);
  }
  return pools;
}

std::vector<Flow> flows_of(const Plan& plan, const std::vector<Pool>& pools) {
  std::vector<Flow> flows;
  for (const Pool& pool : pools) {
    const auto bundles = bundles_by_dst(plan, pool);
    auto share = pool.shares.begin();
    for (std::size_t i = 0; i < pool.dsts.size(); ++i) {
      std::int64_t begin = pool.starts[i];
      for (const std::int32_t id : bundles[i]) {
        const std::int64_t end = begin + at(plan.bundles, id).size_bytes;
        for (std::int64_t position = begin; position < end;) {
          while (share->end <= position) ++share;
          const std::int64_t until = std::min(end, share->end);
          flows.push_back({share->rank, pool.dsts[i], {id, position - begin, until - begin}});
          position = until;
        }
        begin = end;
      }
    }
  }
  return flows;
}

/// One route of one hop for each pair of ranks.
void add_routes(std::vector<Flow> flows, Plan* plan) {
  std::stable_sort(flows.begin(), flows.end(), [](const Flow& a, const Flow& b) {
    return std::pair{a.dst, a.src} < std::pair{b.dst, b.src};
  });
  for (std::size_t i = 0; i < flows.size();) {
    Route route;
    route.first_range = static_cast<std::int64_t>(plan->ranges.size());
    route.first_hop = static_cast<std::int64_t>(plan->hops.size());
    route.num_hops = 1;
    plan->hops.push_back({flows[i].src, flows[i].dst});
    for (; i < flows.size() && flows[i].src == plan->hops.back().src && flows[i].dst == plan->hops.back().dst; ++i) {
      plan->ranges.push_back(flows[i].range);
      route.size_bytes += flows[i].range.end - flows[i].range.begin;
      ++route.num_ranges;
    }
    plan->routes.push_back(route);
  }
}

}  // namespace

void choose_sources(Plan* plan) {
  std::vector<Pool> pools = make_pools(*plan);
  std::vector<Demand> demands;
  std::vector<std::int64_t> pools_of_rank(static_cast<std::size_t>(plan->num_ranks));
  for (const Pool& pool : pools) {
    demands.push_back({pool.starts.back(), plan->sets.ranks(pool.sources)});
    for (const std::int32_t rank : demands.back().sources) ++at(pools_of_rank, rank);
  }
  const WaterFill fill = water_fill(demands, plan->num_ranks);
  plan->certificate = {fill.level, fill.bound};
  for (std::size_t p = 0; p < pools.size(); ++p) {
    // A source deviates by at most one tolerance at each end of its share of each of its pools: 2 % of the level in
    // all.
    std::int64_t most_pools = 1;
    for (const std::int32_t rank : demands[p].sources) most_pools = std::max(most_pools, at(pools_of_rank, rank));
    cut_line(*plan, fill.shares[p], fill.level / (100 * most_pools), &pools[p]);
  }
  add_routes(flows_of(*plan, pools), plan);
}

}  // namespace reshard
