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
      const auto wanted = wanted_beside(id, rank);
      if (wanted.size() != 1 || wanted.front() != rank) return id;
    }
    return -1;
  }

  std::span<const std::int32_t> wanted_beside(std::int32_t destinations, std::int32_t rank) const {
    const RanksByDomain& view = domains_.of(destinations);
    const std::int32_t domain = at(network_.machine.gpus, rank).domain;
    return view.ranks_of(static_cast<std::size_t>(view.find(domain, domains_.place_of_domain())));
  }

  std::int32_t add_hop(std::int32_t src, std::int32_t dst, std::int32_t parent, std::int16_t delay, bool to_staging) {
    Hop hop{src, dst, parent, delay, 0, to_staging};
    if (parent >= 0) hop.step = static_cast<std::int16_t>(at(plan_->hops, route().first_hop + parent).step + 1);
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
    for (std::int32_t l = 0; l < passage.num_landings; ++l) {
      const std::int32_t landing = at(passages_.landings, passage.first_landing + l);
      const auto delay = static_cast<std::int16_t>(l);
      if (passage.is_in_domain) {
        add_hop(rank, landing, parent, delay, false);
        return;
      }
      const std::int32_t exit = network_.exit_towards(rank, landing);
      if (exit != rank) {
        // It may have the bytes already, being one of those that wanted them.
        const std::int32_t has = hop_to(exit);
        parent = has >= 0 ? has : add_hop(rank, exit, parent, delay, true);
        rank = exit;
      }
      const auto wanted = wanted_beside(at(plan_->bundles, passage.range.bundle).destinations, landing);
      const bool stays = std::binary_search(wanted.begin(), wanted.end(), landing);
      parent = add_hop(rank, landing, parent, delay, !stays);
      rank = landing;
      if (!stays) {
        // Several landings in front of the same ranks spread their second step over them.
        const std::int32_t first = wanted[static_cast<std::size_t>(landing) % wanted.size()];
        parent = add_hop(rank, first, parent, delay, false);
        rank = first;
      }
      for (const std::int32_t other : wanted) {
        if (other != rank) add_hop(rank, other, parent, delay, false);
      }
    }
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
