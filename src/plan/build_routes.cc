// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From passages to routes. A passage says whose port bytes leave by and on which ranks they land; a route has all the
// hops: to the exit, over the network, to every rank of the domain that wants them, and on to the next domain. Passages
// that go the same way become one route with several ranges, so that small pieces of many bundles share windows and a
// receiver has few, large messages.
//
// Routes come rank by rank, and to each rank by exit. What a rank gets in common with others (PassageLists) is built
// once, with kReceiver in place of the rank, and repeated: time and memory then grow with what is different, not with
// the number of replicas. The order of routes is the one they would have if none were repeated.
#include "src/plan/build_routes.h"

#include <algorithm>
#include <map>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "src/base/hasher.h"
#include "src/plan/passage_lists.h"

namespace reshard {
namespace {

class RouteBuilder {
 public:
  RouteBuilder(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan)
      : network_(network),
        domains_(domains),
        passages_(passages),
        lists_(passages, plan->num_ranks),
        plan_(plan),
        routes_(plan->routes) {}

  void run() {
    for (std::int32_t rank = 0; rank < plan_->num_ranks; ++rank) add_routes_to(rank);
  }

 private:
  /// What decides which passages are one route, but for the first landing, which those compared have in common. The
  /// exit comes first in the key, so that the ways of an exit stand together. Chains of equal key may still go on to
  /// other landings; is_one_route() looks at these too.
  struct Way {
    std::int32_t exit;
    std::int32_t origin;
    std::int32_t audience;  ///< see audience_of()
    std::int32_t num_landings;
    std::size_t passage;  ///< index in Passages::all
    auto key() const { return std::tuple{exit, origin, audience, num_landings}; }
  };

  /// What decides which routes a rank gets by its common lists: which they are, and the group with which its order
  /// begins, for a route carries that.
  using Membership = std::pair<std::vector<std::int32_t>, std::int32_t>;

  /// The ways of one route, which follow each other.
  struct Slot {
    std::size_t first = 0;
    std::size_t end = 0;
    std::int64_t distinct = -1;  ///< the route, once it was built
  };

  /// The routes by which the common lists of some ranks bring them the same, by exit.
  struct Family {
    std::vector<Way> ways;
    std::vector<Slot> slots;
    std::span<const Way> ways_of(const Slot& slot) const { return {ways.data() + slot.first, slot.end - slot.first}; }
    std::int32_t exit_of(const Slot& slot) const { return ways[slot.first].exit; }
  };

  /// The routes that come to a rank first, by exit: a merge of its own ways with those of its family, both ascending.
  /// At an exit that only the family has, routes are the family's, repeated. At one that both have, own passages may go
  /// the same way as the family's and are then one route with them, so all of that exit is built for this rank alone.
  /// It can be nowhere else, as ways of one route have one exit.
  void add_routes_to(std::int32_t rank) {
    std::vector<Way> own = ways_of(lists_.rare_lists_of(rank));
    const std::vector<std::int32_t>& common = lists_.common_lists_of(rank);
    Family& family = common.empty() ? alone_ : family_of({common, at(plan_->first_groups, rank)});
    auto way = own.cbegin();
    for (auto slot = family.slots.begin(); slot != family.slots.end();) {
      const std::int32_t exit = family.exit_of(*slot);
      const auto before = std::find_if(way, own.cend(), [&](const Way& w) { return w.exit >= exit; });
      add_own({way, before}, rank);
      way = before;
      if (way == own.cend() || way->exit != exit) {
        add_repeated(family, &*slot++, rank);
        continue;
      }
      std::vector<Way> merged;
      for (; way != own.cend() && way->exit == exit; ++way) merged.push_back(*way);
      for (; slot != family.slots.end() && family.exit_of(*slot) == exit; ++slot) {
        const std::span<const Way> theirs = family.ways_of(*slot);
        merged.insert(merged.end(), theirs.begin(), theirs.end());
      }
      sort(&merged);
      add_own(merged, rank);
    }
    add_own({way, own.cend()}, rank);
  }

  /// Ways and slots are made when the first rank of a family comes, routes only when a rank repeats them: those of
  /// exits at which every rank has something of its own are never needed.
  Family& family_of(Membership membership) {
    const auto [known, is_new] = families_.try_emplace(std::move(membership));
    Family& family = known->second;
    if (!is_new) return family;
    family.ways = ways_of(known->first.first);
    for (std::size_t i = 0; i < family.ways.size(); i = family.slots.back().end) {
      family.slots.push_back({i, end_of_route(family.ways, i)});
    }
    return family;
  }

  /// The passages of these lists in the order of routes.
  std::vector<Way> ways_of(const std::vector<std::int32_t>& lists) const {
    std::vector<Way> ways;
    for (const std::int32_t list : lists) {
      for (const std::size_t passage : lists_.passages_of(list)) ways.push_back(way_of(passage));
    }
    sort(&ways);
    return ways;
  }

  void sort(std::vector<Way>* ways) const {
    std::sort(ways->begin(), ways->end(), [&](const Way& a, const Way& b) { return is_before(a, b); });
  }

  Way way_of(std::size_t passage) const {
    const Passage& p = passages_.all[passage];
    return {p.exit, p.origin, audience_of(p), p.relation == Relation::kEach ? 1 : p.num_landings, passage};
  }

  /// Where a chain goes on from its first landing.
  std::span<const std::int32_t> later_landings(const Way& way) const {
    const std::int32_t* first = &at(passages_.landings, passages_.all[way.passage].first_landing);
    return {first + 1, static_cast<std::size_t>(way.num_landings) - 1};
  }

  /// Orders ways so that those of one route follow each other; within a route by passage, which is the order of bytes
  /// on the line from which they were cut.
  bool is_before(const Way& a, const Way& b) const {
    if (a.key() != b.key()) return a.key() < b.key();
    const auto its = later_landings(b);
    const auto mine = later_landings(a);
    const auto [differs, other] = std::mismatch(mine.begin(), mine.end(), its.begin());
    return differs != mine.end() ? *differs < *other : a.passage < b.passage;
  }

  bool is_one_route(const Way& a, const Way& b) const {
    return a.key() == b.key() && std::ranges::equal(later_landings(a), later_landings(b));
  }

  /// All that go the same way, and so stand next to each other, are one route.
  std::size_t end_of_route(std::span<const Way> ways, std::size_t first) const {
    std::size_t end = first + 1;
    while (end < ways.size() && is_one_route(ways[first], ways[end])) ++end;
    return end;
  }

  void add_own(std::span<const Way> ways, std::int32_t rank) {
    for (std::size_t i = 0; i < ways.size();) {
      const std::size_t end = end_of_route(ways, i);
      build(ways.subspan(i, end - i), rank, rank);
      routes_.push_back(route_);
      i = end;
    }
  }

  /// Adds a route of the family for one more rank; the first that needs it has it built.
  void add_repeated(const Family& family, Slot* slot, std::int32_t rank) {
    if (slot->distinct < 0) {
      build(family.ways_of(*slot), rank, kReceiver);
      slot->distinct = static_cast<std::int64_t>(routes_.distinct().size());
      routes_.keep(route_);
    }
    routes_.repeat(slot->distinct, 1, rank);
  }

  /// Makes route_ of ways that are one route to a rank, which the hops call by this name.
  void build(std::span<const Way> ways, std::int32_t rank, std::int32_t name) {
    begin(passages_.all[ways.front().passage], name);
    route_.first_group = at(plan_->first_groups, rank);
    for (const Way& way : ways) add(passages_.all[way.passage].range);
    share_ranges();
  }

  /// Who gets the bytes, as far as the landings do not tell: the destination set, or -1 when each landing is the only
  /// one in its domain. So bundles for different sets still share a route where the difference makes no hop.
  std::int32_t audience_of(const Passage& passage) const {
    if (passage.relation != Relation::kChain) return -1;
    const std::int32_t id = at(plan_->bundles, passage.range.bundle).destinations;
    for (std::int32_t l = 0; l < passage.num_landings; ++l) {
      const std::int32_t rank = at(passages_.landings, passage.first_landing + l);
      const auto wanted = domains_.ranks_in(id, domain_of(rank));
      if (wanted.size() != 1 || wanted.front() != rank) return id;
    }
    return -1;
  }

  std::int32_t domain_of(std::int32_t rank) const { return at(network_.machine.gpus, rank).domain; }

  /// Adds a hop to the route in the making, the last in Plan::hops; returns its index within the route.
  std::int32_t add_hop(std::int32_t src, std::int32_t dst, std::int32_t parent, std::int32_t delay, bool to_staging) {
    Hop hop{src, dst, parent, delay, 0, to_staging};
    if (parent >= 0) hop.step = at(plan_->hops, route_.first_hop + parent).step + 1;
    plan_->hops.push_back(hop);
    return route_.num_hops++;
  }

  /// The hop that brings the bytes to a rank to stay; -1 if there is none yet.
  std::int32_t hop_to(std::int32_t rank) {
    for (std::int32_t h = 0; h < route_.num_hops; ++h) {
      const Hop& hop = at(plan_->hops, route_.first_hop + h);
      if (hop.dst == rank && !hop.to_staging) return h;
    }
    return -1;
  }

  /// A route without ranges, to the rank and from there to the passage's other landings. @pre the passage's first
  /// landing is this rank, or the rank for which it stands
  ///
  /// Going along a chain, `parent` is the hop that brought the bytes to `rank` (-1: it is the origin), and `last` who
  /// keeps them in the domain just served. Landing l is entered by crossing l, whose number is the delay of all hops
  /// from the exit to the ranks served there.
  void begin(const Passage& passage, std::int32_t first_landing) {
    route_ = {};
    route_.first_range = static_cast<std::int64_t>(plan_->ranges.size());
    route_.first_hop = static_cast<std::int64_t>(plan_->hops.size());
    std::int32_t rank = passage.origin;
    std::int32_t parent = -1;
    if (passage.exit != passage.origin) {
      parent = add_hop(rank, passage.exit, parent, 0, true);
      rank = passage.exit;
    }
    if (passage.relation != Relation::kChain) {
      add_hop(rank, first_landing, parent, 0, false);
      return;
    }
    // From here on a chain: each turn leaves the domain before, but for the first, and serves the next.
    Keeper last{rank, -1};
    for (std::int32_t l = 0; l < passage.num_landings; ++l) {
      const std::int32_t landing = at(passages_.landings, passage.first_landing + l);
      parent = l == 0 ? parent : leave(last, landing, l, parent);
      rank = l == 0 ? rank : at(plan_->hops, route_.first_hop + parent).dst;
      last = land(passage, rank, landing, l, &parent);
    }
  }

  /// Brings the bytes to a rank of the keeper's domain that reaches the next landing; the hop that did. Its delay is
  /// the coming crossing's, not the last one's: staging holds a window for one round only.
  std::int32_t leave(const Keeper& keeper, std::int32_t landing, std::int32_t delay, std::int32_t parent) {
    const std::int32_t exit = network_.exit_towards(keeper.rank, landing, keeper.staged_at);
    if (exit == keeper.rank) return parent;
    // It may have the bytes already, being one of those that wanted them.
    const std::int32_t has = hop_to(exit);
    return has >= 0 ? has : add_hop(keeper.rank, exit, parent, delay, true);
  }

  /// Enters a domain and serves all in it that want the bytes: a star from the keeper, as each rank of the domain takes
  /// its copy over its own link. *parent becomes the hop that brings them to the keeper.
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
    ++route_.num_ranges;
    route_.size_bytes += range.end - range.begin;
    plan_->ranges.push_back(range);
  }

  static bool is_same(const Range& a, const Range& b) {
    return a.bundle == b.bundle && a.begin == b.begin && a.end == b.end;
  }

  /// Drops the route's ranges, the last ones made, where an earlier route has the same: replicas of a server get the
  /// same from a source, so that of 12 million ranges from 2048 shards to 64 replicas few hundred thousand stay.
  void share_ranges() {
    const std::span<const Range> mine = plan_->ranges_of(route_);
    Hasher hasher;
    for (const Range& range : mine) {
      for (const std::int64_t value : {std::int64_t{range.bundle}, range.begin, range.end}) hasher.add(value);
    }
    const auto [begin, end] = range_lists_.equal_range(hasher.digest());
    for (auto known = begin; known != end; ++known) {
      const auto [first, count] = known->second;
      if (count != route_.num_ranges) continue;
      if (!std::equal(mine.begin(), mine.end(), plan_->ranges.begin() + first, is_same)) continue;
      plan_->ranges.resize(static_cast<std::size_t>(route_.first_range));
      route_.first_range = first;
      return;
    }
    range_lists_.emplace(hasher.digest(), std::pair{route_.first_range, route_.num_ranges});
  }

  const Network& network_;
  const DomainSets& domains_;
  const Passages& passages_;
  PassageLists lists_;
  Plan* plan_;
  Routes& routes_;  // of the plan
  Route route_;     // in the making: its hops and ranges are the last of the plan's
  std::map<Membership, Family> families_;
  Family alone_;  // of ranks that stand in no common list: no routes
  std::unordered_multimap<std::uint64_t, std::pair<std::int64_t, std::int32_t>> range_lists_;  // by hash: first, number
};

}  // namespace

void build_routes(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan) {
  RouteBuilder(network, domains, passages, plan).run();
}

}  // namespace reshard
