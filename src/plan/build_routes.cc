// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/build_routes.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <tuple>
#include <unordered_map>

#include "src/base/hasher.h"

namespace reshard {
namespace {

class RouteBuilder {
 public:
  RouteBuilder(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan)
      : network_(network), domains_(domains), passages_(passages), plan_(plan) {}

  void run() {
    const std::vector<std::size_t> by_landing = sort_by_landing();
    std::vector<Way> ways;
    for (std::size_t i = 0; i < by_landing.size();) {
      ways.clear();
      const std::int32_t landing = first_landing(by_landing[i]);
      for (; i < by_landing.size() && first_landing(by_landing[i]) == landing; ++i) {
        ways.push_back(way_of(by_landing[i]));
      }
      std::sort(ways.begin(), ways.end(), [&](const Way& a, const Way& b) { return is_before(a, b); });
      build(ways);
    }
  }

 private:
  /// What decides which passages are one route, but for the landing, which those compared have in common.
  struct Way {
    std::int32_t exit;
    std::int32_t origin;
    std::int32_t audience;
    std::int32_t num_landings;
    std::size_t passage;
    auto key() const { return std::tuple{exit, origin, audience, num_landings}; }
  };

  std::int32_t first_landing(std::size_t passage) const {
    return at(passages_.landings, passages_.all[passage].first_landing);
  }

  Way way_of(std::size_t passage) const {
    const Passage& p = passages_.all[passage];
    return {p.exit, p.origin, audience_of(p), p.num_landings, passage};
  }

  std::span<const std::int32_t> landings(const Way& way) const {
    return {passages_.landings.data() + passages_.all[way.passage].first_landing,
            static_cast<std::size_t>(way.num_landings)};
  }

  bool is_before(const Way& a, const Way& b) const {
    if (a.key() != b.key()) return a.key() < b.key();
    const auto its = landings(b);
    const auto mine = landings(a);
    const auto [differs, other] = std::mismatch(mine.begin(), mine.end(), its.begin());
    return differs != mine.end() ? *differs < *other : a.passage < b.passage;
  }

  bool is_one_route(const Way& a, const Way& b) const {
    return a.key() == b.key() && std::equal(landings(a).begin(), landings(a).end(), landings(b).begin());
  }

  /// Passages by the rank on which they land first, in their order. There are millions, of few thousand ranks: counting
  /// leaves only short lists to be sorted by comparison.
  std::vector<std::size_t> sort_by_landing() const {
    std::vector<std::size_t> next(static_cast<std::size_t>(plan_->num_ranks) + 1);
    for (std::size_t i = 0; i < passages_.all.size(); ++i) ++at(next, first_landing(i) + 1);
    std::partial_sum(next.begin(), next.end(), next.begin());
    std::vector<std::size_t> sorted(passages_.all.size());
    for (std::size_t i = 0; i < passages_.all.size(); ++i) sorted[at(next, first_landing(i))++] = i;
    return sorted;
  }

  /// One route of all that go the same way, which stand next to each other.
  void build(const std::vector<Way>& ways) {
    for (std::size_t i = 0; i < ways.size();) {
      const Way& first = ways[i];
      begin(passages_.all[first.passage]);
      for (; i < ways.size() && is_one_route(ways[i], first); ++i) add(passages_.all[ways[i].passage].range);
      share_ranges();
    }
  }

  /// Who gets the bytes, as far as the landings do not tell: the destination set, or -1 when each landing is the only
  /// one in its domain.
  std::int32_t audience_of(const Passage& passage) const {
    if (passage.is_in_domain) return -1;
    const std::int32_t id = at(plan_->bundles, passage.range.bundle).destinations;
    for (std::int32_t l = 0; l < passage.num_landings; ++l) {
      const std::int32_t rank = at(passages_.landings, passage.first_landing + l);
      const auto wanted = domains_.ranks_in(id, domain_of(rank));
      if (wanted.size() != 1 || wanted.front() != rank) return id;
    }
    return -1;
  }

  std::int32_t domain_of(std::int32_t rank) const { return at(network_.machine.gpus, rank).domain; }

  std::int32_t add_hop(std::int32_t src, std::int32_t dst, std::int32_t parent, std::int32_t delay, bool to_staging) {
    Hop hop{src, dst, parent, delay, 0, to_staging};
    if (parent >= 0) hop.step = at(plan_->hops, route().first_hop + parent).step + 1;
    plan_->hops.push_back(hop);
    return route().num_hops++;
  }

  /// The hop that brings the bytes to a rank to stay; -1 if there is none yet.
  std::int32_t hop_to(std::int32_t rank) {
    for (std::int32_t h = 0; h < route().num_hops; ++h) {
      const Hop& hop = at(plan_->hops, route().first_hop + h);
      if (hop.dst == rank && !hop.to_staging) return h;
    }
    return -1;
  }

  Route& route() { return plan_->routes.back(); }

  void begin(const Passage& passage) {
    Route& made = plan_->routes.emplace_back();
    made.first_range = static_cast<std::int64_t>(plan_->ranges.size());
    made.first_hop = static_cast<std::int64_t>(plan_->hops.size());
    made.first_group = at(plan_->first_groups, at(passages_.landings, passage.first_landing));
    std::int32_t rank = passage.origin;
    std::int32_t parent = -1;
    if (passage.exit != passage.origin) {
      parent = add_hop(rank, passage.exit, parent, 0, true);
      rank = passage.exit;
    }
    if (passage.is_in_domain) {
      add_hop(rank, at(passages_.landings, passage.first_landing), parent, 0, false);
      return;
    }
    Keeper last{rank, -1};
    for (std::int32_t l = 0; l < passage.num_landings; ++l) {
      const std::int32_t landing = at(passages_.landings, passage.first_landing + l);
      parent = l == 0 ? parent : leave(last, landing, l, parent);
      rank = l == 0 ? rank : at(plan_->hops, route().first_hop + parent).dst;
      last = land(passage, rank, landing, l, &parent);
    }
  }

  /// Brings the bytes to a rank of the keeper's domain that reaches the next landing; the hop that did.
  std::int32_t leave(const Keeper& keeper, std::int32_t landing, std::int32_t delay, std::int32_t parent) {
    const std::int32_t exit = network_.exit_towards(keeper.rank, landing, keeper.staged_at);
    if (exit == keeper.rank) return parent;
    // It may have the bytes already, being one of those that wanted them.
    const std::int32_t has = hop_to(exit);
    return has >= 0 ? has : add_hop(keeper.rank, exit, parent, delay, true);
  }

  /// Enters a domain and serves all in it that want the bytes; *parent becomes the hop that brings them to the keeper.
  Keeper land(const Passage& passage, std::int32_t from, std::int32_t landing, std::int32_t delay,
              std::int32_t* parent) {
    const std::int32_t destinations = at(plan_->bundles, passage.range.bundle).destinations;
    const Keeper keeper = domains_.keeper(destinations, domain_of(landing), landing);
    *parent = add_hop(from, landing, *parent, delay, keeper.staged_at >= 0);
    if (keeper.staged_at >= 0) *parent = add_hop(landing, keeper.rank, *parent, delay, false);
    for (const std::int32_t other : domains_.ranks_in(destinations, domain_of(landing))) {
      if (other != keeper.rank) add_hop(keeper.rank, other, *parent, delay, false);
    }
    return keeper;
  }

  void add(const Range& range) {
    ++route().num_ranges;
    route().size_bytes += range.end - range.begin;
    plan_->ranges.push_back(range);
  }

  static bool is_same(const Range& a, const Range& b) {
    return a.bundle == b.bundle && a.begin == b.begin && a.end == b.end;
  }

  /// Drops the route's ranges, the last ones made, where an earlier route has the same: replicas of a server get the
  /// same from a source, so that of 12 million ranges from 2048 shards to 64 replicas few hundred thousand stay.
  void share_ranges() {
    const Range* mine = plan_->begin_ranges(route());
    Hasher hasher;
    for (const Range* range = mine; range != mine + route().num_ranges; ++range) {
      for (const std::int64_t value : {std::int64_t{range->bundle}, range->begin, range->end}) hasher.add(value);
    }
    const auto [begin, end] = lists_.equal_range(hasher.digest());
    for (auto known = begin; known != end; ++known) {
      const auto [first, count] = known->second;
      if (count != route().num_ranges) continue;
      if (!std::equal(mine, mine + count, plan_->ranges.data() + first, is_same)) continue;
      plan_->ranges.resize(static_cast<std::size_t>(route().first_range));
      route().first_range = first;
      return;
    }
    lists_.emplace(hasher.digest(), std::pair{route().first_range, route().num_ranges});
  }

  const Network& network_;
  const DomainSets& domains_;
  const Passages& passages_;
  Plan* plan_;
  std::unordered_multimap<std::uint64_t, std::pair<std::int64_t, std::int32_t>> lists_;  // by hash: first, number
};

}  // namespace

void build_routes(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan) {
  RouteBuilder(network, domains, passages, plan).run();
}

}  // namespace reshard
