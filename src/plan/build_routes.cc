// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/build_routes.h"

#include <algorithm>
#include <tuple>

namespace reshard {
namespace {

class RouteBuilder {
 public:
  RouteBuilder(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan)
      : network_(network), domains_(domains), passages_(passages), plan_(plan) {}

  void run() {
    std::vector<std::size_t> order(passages_.all.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::vector<std::int32_t> audiences;
    for (const Passage& passage : passages_.all) audiences.push_back(audience_of(passage));
    const auto way = [&](std::size_t i) {
      const Passage& p = passages_.all[i];
      return std::tuple{at(passages_.landings, p.first_landing), p.exit, p.origin, audiences[i], p.num_landings};
    };
    const auto landings = [&](std::size_t i) { return passages_.landings.begin() + passages_.all[i].first_landing; };
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      if (way(a) != way(b)) return way(a) < way(b);
      const std::int32_t count = passages_.all[a].num_landings;
      return std::lexicographical_compare(landings(a), landings(a) + count, landings(b), landings(b) + count);
    });
    for (std::size_t i = 0; i < order.size();) {
      const std::size_t first = order[i];
      begin(passages_.all[first]);
      for (; i < order.size() && way(order[i]) == way(first) &&
             std::equal(landings(first), landings(first) + passages_.all[first].num_landings, landings(order[i]));
           ++i) {
        add(passages_.all[order[i]].range);
      }
    }
  }

 private:
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

  const Network& network_;
  const DomainSets& domains_;
  const Passages& passages_;
  Plan* plan_;
};

}  // namespace

void build_routes(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan) {
  RouteBuilder(network, domains, passages, plan).run();
}

}  // namespace reshard
