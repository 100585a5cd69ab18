// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// For each domain: what it needs from outside is put into pools, by the ranks that may take it from the network; the
// pools are poured over the ports of those ranks; and the bytes of each pool, laid end to end, are cut into one landing
// for each port.
//
// At first only ranks that want the bytes take them, since from there nothing needs to be staged. Where they are too
// few (one rank of eight wants a tensor of its own), their ports would be busier than the busiest domain's must be;
// then the pools of such ranks are opened to all ports of the domain and poured again. Once is enough: there is nothing
// wider.
#include "src/plan/landings.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>

#include "src/plan/line.h"
#include "src/plan/water_fill.h"

namespace reshard {
namespace {

/// Numbers of rails, each once, descending: a list and no mask of bits, for there is no limit to them. Not used, and
/// empty, where rails are joined.
using Rails = std::vector<std::int32_t>;

/// A bundle that a domain needs and has not got.
struct Need {
  std::int32_t bundle = -1;
  std::int32_t group = 0;  ///< index of the domain in RanksByDomain::domains of the bundle's destinations
};

/// Needs of a domain that the same ranks may take from the network: one demand of the fill.
struct Pool {
  std::vector<std::int32_t> ranks;
  std::vector<std::int32_t> bundles;
  std::int64_t bytes = 0;
};

class LandingChooser {
 public:
  LandingChooser(const Plan& plan, const Network& network, const DomainSets& domains, const Kept& kept)
      : plan_(plan), network_(network), domains_(domains), kept_(kept), needs_(network.machine.domains.size()) {}

  Result<Landings> run() {
    if (plan_.options.machine == nullptr) {
      land_on_each();
      return std::move(out_);
    }
    collect_needs();
    for (std::size_t d = 0; d < needs_.size(); ++d) {
      RESHARD_TRY(enter(static_cast<std::int32_t>(d)));
    }
    std::sort(out_.all.begin(), out_.all.end(), [](const Landing& a, const Landing& b) {
      return std::tuple{a.bundle, a.place, a.begin} < std::tuple{b.bundle, b.place, b.begin};
    });
    return std::move(out_);
  }

 private:
  /// Without a machine ranks are equal and alone: each gets a copy of its own, by its own port, of all that it needs.
  void land_on_each() {
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const auto id = static_cast<std::int32_t>(b);
      const Bundle& bundle = plan_.bundles[b];
      if (bundle.size_bytes == 0) continue;
      std::vector<std::int32_t> receivers = others(bundle);
      std::erase_if(receivers, [&](std::int32_t rank) { return kept_.serves(id, rank); });
      if (receivers.empty()) continue;
      out_.all.push_back({id, 0, -1, out_.receivers.intern(std::move(receivers)), 0, bundle.size_bytes});
    }
  }

  /// The destinations that do not hold the bundle.
  std::vector<std::int32_t> others(const Bundle& bundle) const {
    const std::vector<std::int32_t>& wanted = plan_.sets.ranks(bundle.destinations);
    const std::vector<std::int32_t>& held = plan_.sets.ranks(bundle.sources);
    std::vector<std::int32_t> out;
    out.reserve(wanted.size());
    std::set_difference(wanted.begin(), wanted.end(), held.begin(), held.end(), std::back_inserter(out));
    return out;
  }

  /// Finds each domain's needs, and how busy the busiest will be. What kept routes bring is no need any more but counts
  /// for the latter, for it takes the ports as long. One rank tells for its domain whether they do: a bundle's routes
  /// are kept only where they serve all in the domain that want it (Replanner::can_keep).
  void collect_needs() {
    std::vector<std::int64_t> bytes(needs_.size());
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (bundle.size_bytes == 0) continue;
      const RanksByDomain& wanted = domains_.of(bundle.destinations);
      for (std::size_t i = 0; i < wanted.num_domains(); ++i) {
        if (domains_.touches(bundle.sources, wanted.domains[i])) continue;
        at(bytes, wanted.domains[i]) += bundle.size_bytes;
        if (kept_.serves(static_cast<std::int32_t>(b), wanted.ranks_of(i).front())) continue;
        at(needs_, wanted.domains[i]).push_back({static_cast<std::int32_t>(b), static_cast<std::int32_t>(i)});
      }
    }
    for (std::size_t d = 0; d < bytes.size(); ++d) {
      std::int64_t capacity = 0;
      for (const std::int32_t rank : at(network_.machine.domains, d).ranks) capacity += network_.in(rank);
      if (bytes[d] == 0 || capacity == 0) continue;
      const auto busy = static_cast<std::int64_t>(static_cast<__int128>(bytes[d]) * network_.fastest_in() / capacity);
      out_.busiest_bytes = std::max(out_.busiest_bytes, busy);
    }
  }

  /// The rails by which the holders' domains reach out, where rails are isolated.
  const Rails& rails_of(std::int32_t sources) {
    const auto [entry, is_new] = rails_.try_emplace(sources);
    Rails& rails = entry->second;
    if (!is_new || !network_.machine.rail_isolated) return rails;
    for (const std::int32_t domain : domains_.of(sources).domains) {
      for (const std::int32_t rank : at(network_.machine.domains, domain).ranks) {
        if (network_.out(rank) > 0) rails.push_back(network_.rail(rank));
      }
    }
    std::sort(rails.begin(), rails.end(), std::greater());
    rails.erase(std::unique(rails.begin(), rails.end()), rails.end());
    return rails;
  }

  /// On isolated rails bytes can only enter by a rail on which they can leave.
  bool can_land(std::int32_t rank, const Rails& rails) const {
    if (network_.in(rank) == 0) return false;
    return !network_.machine.rail_isolated ||
           std::binary_search(rails.begin(), rails.end(), network_.rail(rank), std::greater());
  }

  template <typename Ranks>
  std::vector<std::int32_t> landable(const Ranks& ranks, const Rails& rails) const {
    std::vector<std::int32_t> out;
    for (const std::int32_t rank : ranks) {
      if (can_land(rank, rails)) out.push_back(rank);
    }
    return out;
  }

  /// Makes the landings of one domain, whose ports no other domain's bytes come through.
  Status enter(std::int32_t domain) {
    // Bundles that the same rails bring and the same ranks want may land on the same ranks: one pool for them.
    std::map<std::pair<Rails, std::vector<std::int32_t>>, Pool> by_ranks;
    for (const Need& need : at(needs_, domain)) {
      const Bundle& bundle = at(plan_.bundles, need.bundle);
      const Rails& rails = rails_of(bundle.sources);
      const auto wanted = domains_.of(bundle.destinations).ranks_of(static_cast<std::size_t>(need.group));
      Pool& pool = by_ranks[{rails, {wanted.begin(), wanted.end()}}];
      if (pool.bundles.empty()) pool.ranks = landable(wanted, rails);
      if (pool.ranks.empty()) pool.ranks = landable(at(network_.machine.domains, domain).ranks, rails);
      if (pool.ranks.empty()) return unreachable(domain, bundle);
      pool.bundles.push_back(need.bundle);
      pool.bytes += bundle.size_bytes;
    }
    std::vector<Pool> pools;
    std::vector<Rails> rails;
    for (auto& [key, pool] : by_ranks) {
      rails.push_back(key.first);
      pools.push_back(std::move(pool));
    }
    divide(domain, rails, &pools);
    return {};
  }

  Status unreachable(std::int32_t domain, const Bundle& bundle) const {
    const auto node_of = [&](std::int32_t rank) {
      return at(network_.machine.nodes, at(network_.machine.gpus, rank).node).name;
    };
    return invalid_argument(fmt::format(
        "no port of node \"{}\" (rank {}) is reached from node \"{}\" (rank {}), which holds what it needs{}; give "
        "both "
        "a port{}",
        node_of(at(network_.machine.domains, domain).ranks.front()), at(network_.machine.domains, domain).ranks.front(),
        node_of(plan_.sets.ranks(bundle.sources).front()), plan_.sets.ranks(bundle.sources).front(),
        network_.machine.rail_isolated ? ": the rails are isolated and they share none" : "",
        network_.machine.rail_isolated ? " on the same rail" : ""));
  }

  /// Pours the pools over the domain's ranks, which stand in the fill as places in `ranks`. The tolerance of cuts is 1
  /// % of the level by the number of pools: a rank may be off by one at each end of its part of each pool, 2 % in all.
  void divide(std::int32_t domain, const std::vector<Rails>& rails, std::vector<Pool>* pools) {
    const std::vector<std::int32_t>& ranks = at(network_.machine.domains, domain).ranks;
    std::vector<std::int64_t> capacities;
    std::vector<std::int64_t> carried_before;
    for (const std::int32_t rank : ranks) {
      capacities.push_back(network_.in(rank));
      carried_before.push_back(kept_.in_bytes.empty() ? 0 : at(kept_.in_bytes, rank));
    }
    // First over those that want the bytes, and only if that is too much for them over all (the head of this file).
    WaterFill fill = water_fill(demands(*pools, ranks), capacities, carried_before);
    if (!pools->empty() && is_too_busy(fill, capacities)) {
      const std::vector<std::int64_t> carried = loads(*pools, fill, ranks);
      for (std::size_t p = 0; p < pools->size(); ++p) widen(ranks, carried, rails[p], &(*pools)[p]);
      fill = water_fill(demands(*pools, ranks), capacities, carried_before);
    }
    for (std::size_t p = 0; p < pools->size(); ++p) {
      land(domain, (*pools)[p], fill.shares[p], fill.level / (100 * static_cast<std::int64_t>(pools->size())));
    }
  }

  static std::vector<Demand> demands(const std::vector<Pool>& pools, const std::vector<std::int32_t>& ranks) {
    std::vector<Demand> out;
    for (const Pool& pool : pools) {
      Demand& demand = out.emplace_back();
      demand.bytes = pool.bytes;
      for (const std::int32_t rank : pool.ranks) {
        demand.sources.push_back(
            static_cast<std::int32_t>(std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin()));
      }
    }
    return out;
  }

  /// Whether the busiest rank is more than 0.5 % (201 / 200) above the target, as quotients of bytes and rates
  /// multiplied out. Levels of the fill are relative to the fastest part in the domain; the target to the fastest of
  /// the machine.
  bool is_too_busy(const WaterFill& fill, const std::vector<std::int64_t>& capacities) {
    const std::int64_t here = std::max<std::int64_t>(1, *std::max_element(capacities.begin(), capacities.end()));
    return static_cast<__int128>(fill.level) * network_.fastest_in() * 200 >
           static_cast<__int128>(out_.busiest_bytes) * here * 201;
  }

  /// Bytes that each rank takes in all, by place in `ranks`; without what kept routes bring, which no pool can be rid
  /// of.
  static std::vector<std::int64_t> loads(const std::vector<Pool>& pools, const WaterFill& fill,
                                         const std::vector<std::int32_t>& ranks) {
    std::vector<std::int64_t> out(ranks.size());
    const std::vector<Demand> of_pools = demands(pools, ranks);
    for (std::size_t p = 0; p < pools.size(); ++p) {
      for (std::size_t s = 0; s < of_pools[p].sources.size(); ++s) at(out, of_pools[p].sources[s]) += fill.shares[p][s];
    }
    return out;
  }

  /// Lets all ranks of the domain take the bytes of a pool whose own ranks would be too busy: all of them, for where
  /// one had room the water would have gone there.
  void widen(const std::vector<std::int32_t>& ranks, const std::vector<std::int64_t>& carried, const Rails& rails,
             Pool* pool) const {
    for (const std::int32_t rank : pool->ranks) {
      const auto place = std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin();
      const __int128 busy = static_cast<__int128>(at(carried, place)) * network_.fastest_in() * 200;
      if (busy <= static_cast<__int128>(out_.busiest_bytes) * network_.in(rank)*201) return;
    }
    pool->ranks = landable(ranks, rails);
  }

  /// Cuts a pool's bytes, bundle after bundle, by the shares of its ranks. Bundles are the sections of the line, so
  /// that a landing is mostly of whole ones.
  void land(std::int32_t domain, const Pool& pool, const std::vector<std::int64_t>& bytes, std::int64_t tolerance) {
    const std::int32_t place = at(domains_.place_of_domain(), domain);
    if (pool.ranks.size() == 1) {
      for (const std::int32_t b : pool.bundles) {
        out_.all.push_back({b, place, pool.ranks.front(), -1, 0, at(plan_.bundles, b).size_bytes});
      }
      return;
    }
    Line line(plan_);
    for (const std::int32_t b : pool.bundles) line.add({b, 0, at(plan_.bundles, b).size_bytes}, b);
    line.divide(bytes, tolerance, [&](std::size_t part, std::size_t, const Range& range) {
      out_.all.push_back({range.bundle, place, pool.ranks[part], -1, range.begin, range.end});
    });
  }

  const Plan& plan_;
  const Network& network_;
  const DomainSets& domains_;
  const Kept& kept_;
  std::vector<std::vector<Need>> needs_;  // by domain
  std::map<std::int32_t, Rails> rails_;   // by source set
  Landings out_;
};

}  // namespace

Result<Landings> choose_landings(const Plan& plan, const Network& network, const DomainSets& domains,
                                 const Kept& kept) {
  return LandingChooser(plan, network, domains, kept).run();
}

}  // namespace reshard
