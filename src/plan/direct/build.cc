// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Routes come rank by rank, and to each rank by sender. What a rank gets in common with others (ReceiverLists) is built
// once, with kReceiver in place of the rank, and repeated: time and memory then grow with what is different, not with
// the number of replicas. The order of routes is the one they would have if none were repeated.
#include "src/plan/direct/build.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "src/plan/direct/receiver_lists.h"
#include "src/plan/range_lists.h"

namespace reshard::direct {
namespace {

class RouteBuilder {
 public:
  RouteBuilder(const Sendings& sendings, Plan* plan)
      : sendings_(sendings), lists_(sendings, plan->num_ranks), plan_(*plan), range_lists_(plan) {}

  void run() {
    for (std::int32_t rank = 0; rank < plan_.num_ranks; ++rank) add_routes_to(rank);
  }

 private:
  /// Indices in Sendings::all, by sender, and of one sender ascending: that is the order of bytes on the line from
  /// which they were cut.
  using Ways = std::vector<std::size_t>;

  /// What decides which routes a rank gets by its common lists: which they are, and the group with which its order
  /// begins, for a route carries that.
  using Membership = std::pair<std::vector<std::int32_t>, std::int32_t>;

  /// The ways of one sender, which follow each other: one route.
  struct Slot {
    std::size_t first = 0;
    std::size_t end = 0;
    std::int64_t distinct = -1;  ///< the route, once it was built
  };

  /// The routes by which the common lists of some ranks bring them the same, by sender.
  struct Family {
    Ways ways;
    std::vector<Slot> slots;
    std::span<const std::size_t> ways_of(const Slot& slot) const {
      return {ways.data() + slot.first, slot.end - slot.first};
    }
  };

  std::int32_t sender_of(std::size_t way) const { return sendings_.all[way].sender; }

  /// The routes that come to a rank, by sender: a merge of its own ways with those of its family, both ascending. From
  /// a sender that only the family has, routes are the family's, repeated. From one that both have, all is one route,
  /// built for this rank alone.
  void add_routes_to(std::int32_t rank) {
    const Ways own = ways_of(lists_.rare_lists_of(rank));
    const std::vector<std::int32_t>& common = lists_.common_lists_of(rank);
    Family& family = common.empty() ? alone_ : family_of({common, at(plan_.first_groups, rank)});
    auto way = own.cbegin();
    for (Slot& slot : family.slots) {
      const std::int32_t sender = sender_of(family.ways[slot.first]);
      const auto before = std::find_if(way, own.cend(), [&](std::size_t w) { return sender_of(w) >= sender; });
      add_own({way, before}, rank);
      way = std::find_if(before, own.cend(), [&](std::size_t w) { return sender_of(w) > sender; });
      if (way == before) {
        add_repeated(family, &slot, rank);
      } else {
        const std::span<const std::size_t> theirs = family.ways_of(slot);
        Ways merged;
        std::merge(before, way, theirs.begin(), theirs.end(), std::back_inserter(merged));
        add_own(merged, rank);
      }
    }
    add_own({way, own.cend()}, rank);
  }

  /// Ways and slots are made when the first rank of a family comes, routes only when a rank repeats them: those of
  /// senders from which every rank has something of its own are never needed.
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

  /// The sendings of these lists in the order of routes.
  Ways ways_of(const std::vector<std::int32_t>& lists) const {
    Ways ways;
    for (const std::int32_t list : lists) {
      const std::span<const std::size_t> its = lists_.sendings_to(list);
      ways.insert(ways.end(), its.begin(), its.end());
    }
    std::sort(ways.begin(), ways.end(), [&](std::size_t a, std::size_t b) {
      return std::pair{sender_of(a), a} < std::pair{sender_of(b), b};
    });
    return ways;
  }

  std::size_t end_of_route(std::span<const std::size_t> ways, std::size_t first) const {
    std::size_t end = first + 1;
    while (end < ways.size() && sender_of(ways[end]) == sender_of(ways[first])) ++end;
    return end;
  }

  void add_own(std::span<const std::size_t> ways, std::int32_t rank) {
    for (std::size_t i = 0; i < ways.size();) {
      const std::size_t end = end_of_route(ways, i);
      plan_.routes.push_back(build(ways.subspan(i, end - i), rank, rank));
      i = end;
    }
  }

  /// Adds a route of the family for one more rank; the first that needs it has it built.
  void add_repeated(const Family& family, Slot* slot, std::int32_t rank) {
    if (slot->distinct < 0) {
      slot->distinct = std::ssize(plan_.routes.distinct());
      plan_.routes.keep(build(family.ways_of(*slot), rank, kReceiver));
    }
    plan_.routes.repeat(slot->distinct, 1, rank);
  }

  /// The route of ways from one sender to a rank, which the hop calls by this name. Adds its hop and ranges to the
  /// plan.
  Route build(std::span<const std::size_t> ways, std::int32_t rank, std::int32_t name) {
    ranges_.clear();
    Route route;
    for (const std::size_t way : ways) {
      const Range& range = sendings_.all[way].range;
      ranges_.push_back(range);
      route.size_bytes += range.end - range.begin;
    }
    route.first_range = range_lists_.place_of(ranges_);
    route.num_ranges = static_cast<std::int32_t>(ranges_.size());
    route.first_hop = std::ssize(plan_.hops);
    route.num_hops = 1;
    route.first_group = at(plan_.first_groups, rank);
    plan_.hops.push_back({sender_of(ways.front()), name, -1, 0, 0, false});
    return route;
  }

  const Sendings& sendings_;
  const ReceiverLists lists_;
  Plan& plan_;
  RangeLists range_lists_;
  std::vector<Range> ranges_;  // of the route in the making
  std::map<Membership, Family> families_;
  Family alone_;  // of ranks that stand in no common list: no routes
};

}  // namespace

void build_routes(const Sendings& sendings, Plan* plan) {
  RouteBuilder(sendings, plan).run();
}

}  // namespace reshard::direct
