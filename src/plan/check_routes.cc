// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Proves that routes bring every byte once to every rank that wants it, from a rank that has it by then. Run on every
// plan that is made and on every one that is read: a fault of the planner, or a file that somebody changed, ends here
// with a status, and not in wrong weights or in ranks that wait for each other.
//
// Two proofs. Route by route: it begins at ranks that hold its bytes, every hop starts where an earlier one ended, and
// nobody gets anything twice. Then bundle by bundle, over all routes: what comes to each rank covers the bundle's
// stream from its first byte to its last. Each distinct route is looked at once, however often it is repeated; what
// depends on the receiver is checked for every one of them.
//
// Nothing that was read is trusted, so each number is checked before it is used as an index, and in this order: parts
// of routes, ranges, rounds, hops.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "src/plan/plan.h"

namespace reshard {
namespace {

// A window's place in the order has a round and a hop's delay added up, in 32 bits.
constexpr std::int32_t kMostRounds = 1 << 30;

/// How far a bundle's stream has come to a rank to stay. One such mark is enough, since ranges are delivered in the
/// order of the stream: each must begin where the one before it ended.
struct Arrived {
  std::int32_t bundle = -1;  ///< of which something came last
  std::int64_t end = 0;
};

/// Distinct routes [first, end), and for whom they stand: for themselves, with the one receiver -1, or for each of the
/// receivers.
struct Segment {
  std::int64_t first = 0;
  std::int64_t end = 0;
  std::vector<std::int32_t> receivers;
};

/// A range in a list of ranges that some routes share. Routes of a repeated list are found by the list, so that a
/// bundle's uses are as many as the lists it is in, not as many as routes.
struct Use {
  std::int64_t range;
  std::int32_t list;
};

Status broken(std::int64_t route, const std::string& what) {
  return {RESHARD_ERR_INTERNAL, fmt::format("route {} of the plan {}", route, what)};
}

/// Functions that return a text say what is wrong with a route, to follow "route 5 of the plan"; empty when nothing is.
class RouteChecker {
 public:
  explicit RouteChecker(const Plan& plan) : plan_(plan) {}

  Status run() {
    if (plan_.first_groups.size() != static_cast<std::size_t>(plan_.num_ranks)) {
      return {RESHARD_ERR_INTERNAL, fmt::format("the plan has orders of groups for {} ranks and not for {}",
                                                plan_.first_groups.size(), plan_.num_ranks)};
    }
    for (const std::int32_t group : plan_.first_groups) {
      // Without tensors there are no groups, and every order is the empty one.
      if (group >= 0 && group < std::max<std::int64_t>(1, size(plan_.groups))) continue;
      return {RESHARD_ERR_INTERNAL,
              fmt::format("an order of the plan begins with group {} of {}", group, plan_.groups.size())};
    }
    RESHARD_TRY(find_segments());
    for (const Segment& segment : segments_) {
      for (std::int64_t r = segment.first; r < segment.end; ++r) {
        if (const std::string what = check_parts(r); !what.empty()) return broken(r, what);
        if (const std::string what = check(r, segment.receivers); !what.empty()) return broken(r, what);
      }
    }
    if (known_ranges_ != size(plan_.ranges) || known_hops_ != size(plan_.hops)) {
      return broken(size(plan_.routes.distinct()), "is missing");
    }
    return check_arrivals();
  }

 private:
  template <typename T>
  static std::int64_t size(const std::vector<T>& items) {
    return static_cast<std::int64_t>(items.size());
  }

  /// Cuts the distinct routes wherever a run begins or ends: those between two cuts stand for the same receivers. Runs
  /// overlap among the distinct routes, since that is what repeating is: a run of routes 0 to 9 for rank 5 and one of 4
  /// to 9 for rank 6 make the segments 0 to 3, for rank 5, and 4 to 9, for both.
  Status find_segments() {
    const Routes& routes = plan_.routes;
    std::vector<std::int64_t> cuts = {0, size(routes.distinct())};
    for (std::size_t run = 0; run < routes.runs().size(); ++run) {
      const Routes::Run& those = routes.runs()[run];
      const std::int64_t end = those.first_distinct + routes.size_of(run);
      if (those.first_distinct < 0 || end > cuts[1]) return broken(those.first_distinct, "is not there");
      cuts.insert(cuts.end(), {those.first_distinct, end});
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) segments_.push_back({cuts[i], cuts[i + 1], {}});
    for (std::size_t run = 0; run < routes.runs().size(); ++run) {
      const Routes::Run& those = routes.runs()[run];
      const std::int64_t end = those.first_distinct + routes.size_of(run);
      for (Segment* segment = segment_of(those.first_distinct); segment != &segments_.back() + 1; ++segment) {
        if (segment->first >= end) break;
        segment->receivers.push_back(those.receiver);
      }
    }
    return {};
  }

  /// @pre the route is one of the distinct ones; segments cover them all
  Segment* segment_of(std::int64_t route) {
    const auto after = std::upper_bound(segments_.begin(), segments_.end(), route,
                                        [](std::int64_t r, const Segment& s) { return r < s.first; });
    return &*(after - 1);
  }

  /// Whether a route has ranges and hops, which follow those of the routes before it. Ranges may also be those of an
  /// earlier route (replicas share them), hops never: so known_ranges_ and known_hops_ come to the end of what the plan
  /// has exactly when nothing in it is without a route.
  std::string check_parts(std::int64_t id) {
    const Route& route = at(plan_.routes.distinct(), id);
    const bool is_in_order = route.first_range >= 0 && route.first_range <= known_ranges_ &&
                             route.first_hop == known_hops_ && route.num_ranges > 0 && route.num_hops > 0;
    if (!is_in_order) return "does not follow the one before it";
    known_ranges_ = std::max(known_ranges_, route.first_range + route.num_ranges);
    known_hops_ += route.num_hops;
    if (known_ranges_ > size(plan_.ranges) || known_hops_ > size(plan_.hops)) return "has parts that are not there";
    return {};
  }

  /// What is wrong with a route for one of its receivers; empty when nothing is. All is checked for the first of them,
  /// and for the others what depends on the receiver. (That these do not hold what they are brought is a part of
  /// check_arrivals().)
  std::string check(std::int64_t id, const std::vector<std::int32_t>& receivers) {
    if (receivers.empty()) return "is no route of any rank";
    Route route = at(plan_.routes.distinct(), id);
    route.receiver = receivers.front();
    if (std::string what = check(route); !what.empty()) return what;
    // The first stood in the hops for all of these, so only what tells one from another is left.
    for (std::size_t i = 1; i < receivers.size(); ++i) {
      route.receiver = receivers[i];
      if (std::string what = check_receiver(route); !what.empty()) return what;
    }
    return {};
  }

  /// What can be wrong for one receiver of a repeated route and not for another. It stands in hops only by its name,
  /// kReceiver; if it also stood there as itself, it would get the bytes twice or send them before it had them.
  std::string check_receiver(const Route& route) const {
    const std::int32_t receiver = route.receiver;
    if (receiver < 0 || receiver >= plan_.num_ranks) return "is repeated for a rank that is none";
    for (std::int64_t h = route.first_hop; h < route.first_hop + route.num_hops; ++h) {
      const Hop& hop = at(plan_.hops, h);
      if (hop.src == receiver || hop.dst == receiver) return fmt::format("comes to its receiver {} twice", receiver);
    }
    const bool has_order = plan_.options.open_groups > 0;
    return has_order && at(plan_.first_groups, receiver) != route.first_group ? wrong_order(route, receiver) : "";
  }

  std::string wrong_order(const Route& route, std::int32_t receiver) const {
    return fmt::format("begins with group {} and its receiver {} with group {}", route.first_group, receiver,
                       at(plan_.first_groups, receiver));
  }

  /// What is wrong with a route; empty when nothing is.
  std::string check(const Route& route) {
    std::int64_t bytes = 0;
    for (const Range& range : plan_.ranges_of(route)) {
      if (range.bundle < 0 || range.bundle >= size(plan_.bundles)) return "has a bundle that is not there";
      if (range.begin < 0 || range.begin >= range.end || range.end > at(plan_.bundles, range.bundle).size_bytes) {
        return "goes beyond its bundle";
      }
      if (__builtin_add_overflow(bytes, range.end - range.begin, &bytes)) return "has more bytes than can be counted";
    }
    if (bytes != route.size_bytes) return "has another size than its ranges";
    if (std::string what = check_rounds(route); !what.empty()) return what;
    if (route.first_group < 0 || route.first_group >= size(plan_.groups))
      return "begins with a group that is not there";
    is_used_.assign(static_cast<std::size_t>(route.num_hops), false);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (std::string what = check(route, h); !what.empty()) return what;
      const std::int32_t parent = plan_.begin_hops(route)[h].parent;
      if (parent >= 0) is_used_[static_cast<std::size_t>(parent)] = true;
    }
    reached_.clear();
    for (std::int32_t h = 0; h < route.num_hops; ++h) reached_.push_back(plan_.begin_hops(route)[h].dst);
    std::sort(reached_.begin(), reached_.end());
    const auto twice = std::adjacent_find(reached_.begin(), reached_.end());
    if (twice != reached_.end()) return fmt::format("comes to rank {} twice", *twice);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (plan_.begin_hops(route)[h].to_staging && !is_used_[static_cast<std::size_t>(h)]) return "ends in staging";
    }
    return {};
  }

  /// Rounds ascend, for windows follow each other in them; and with the largest delay added they still fit 32 bits.
  std::string check_rounds(const Route& route) const {
    const std::int64_t end = std::int64_t{route.first_round} + route.num_rounds;
    if (route.first_round < 0 || route.num_rounds < 0 || end > size(plan_.rounds)) {
      return "has rounds that are not there";
    }
    std::int32_t before = 0;
    std::int32_t delay = 0;
    for (std::int64_t i = route.first_round; i < end; ++i) {
      if (at(plan_.rounds, i) < before) return "has rounds that do not ascend";
      before = at(plan_.rounds, i);
    }
    for (std::int32_t h = 0; h < route.num_hops; ++h) delay = std::max(delay, plan_.begin_hops(route)[h].delay);
    return std::max(before, delay) >= kMostRounds ? "has rounds that cannot be counted" : "";
  }

  /// A hop by itself and against the one that feeds it. Hops of a route are a forest whose roots hold the bytes;
  /// parents come first, so one pass proves that nobody sends what it has not got. Out of staging a window must go in
  /// the round in which it came (equal delays): one that stayed while windows of later rounds came would hold a slot
  /// that they need, and two ranks that wait for each other's slots wait for ever. For the same reason orders of groups
  /// must agree: a receiver whose order begins elsewhere would not take what its sender sends next.
  std::string check(const Route& route, std::int32_t index) {
    const HopIterator hops = plan_.begin_hops(route);
    const Hop& hop = hops[index];
    const auto is_rank = [&](std::int32_t rank) { return rank >= 0 && rank < plan_.num_ranks; };
    if (!is_rank(hop.src) || !is_rank(hop.dst) || hop.src == hop.dst) return "has a hop between ranks that are none";
    if (hop.parent >= index || hop.parent < -1) return "has a hop before the one that feeds it";
    const bool is_first = hop.parent < 0;
    if (!is_first && hops[hop.parent].dst != hop.src) return "has a hop from a rank that the bytes do not reach";
    if (!is_first && at(plan_.hops, route.first_hop + hop.parent).dst == kReceiver) {
      return "goes on from its receiver, which is another each time";
    }
    if (hop.step != (is_first ? 0 : hops[hop.parent].step + 1)) return "has a hop with the wrong step";
    if (!is_first && hops[hop.parent].to_staging && hop.delay != hops[hop.parent].delay) {
      return fmt::format("keeps bytes in the staging of rank {} for {} rounds", hop.src,
                         hop.delay - hops[hop.parent].delay);
    }
    if (!hop.to_staging && plan_.options.open_groups > 0 && at(plan_.first_groups, hop.dst) != route.first_group) {
      return wrong_order(route, hop.dst);
    }
    if (hop.delay < (is_first ? 0 : hops[hop.parent].delay)) return "has a hop before its bytes are there";
    for (const Range& range : plan_.ranges_of(route)) {
      const Bundle& bundle = at(plan_.bundles, range.bundle);
      if (is_first && !plan_.sets.contains(bundle.sources, hop.src)) return "begins where the bytes are not";
      if (hop.to_staging) continue;
      if (plan_.sets.contains(bundle.sources, hop.dst)) return "brings a rank what it holds";
    }
    return {};
  }

  /// Bundle by bundle: what arrives at its destinations covers its stream, without a gap and without overlap. Routes
  /// are many and lists of ranges few: both are grouped by counting, so that no list of all arrivals is ever made.
  Status check_arrivals() {
    const std::vector<std::int32_t> list_of_route = find_lists();
    std::vector<std::int64_t> routes;  // distinct
    const std::vector<std::int64_t> first_route = group(lists_.size(), routes, [&](const auto& add) {
      for (std::size_t r = 0; r < list_of_route.size(); ++r) add(list_of_route[r], static_cast<std::int64_t>(r));
    });
    std::vector<Use> uses;
    const std::vector<std::int64_t> first_use = group(plan_.bundles.size(), uses, [&](const auto& add) {
      for (std::size_t l = 0; l < lists_.size(); ++l) {
        for (std::int64_t i = lists_[l].first; i < lists_[l].first + lists_[l].second; ++i) {
          add(at(plan_.ranges, i).bundle, Use{i, static_cast<std::int32_t>(l)});
        }
      }
    });
    arrived_.resize(static_cast<std::size_t>(plan_.num_ranks));
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const auto id = static_cast<std::int32_t>(b);
      num_reached_ = 0;
      // In the order of the stream, so that at each rank one range must begin where the one before it ended.
      std::sort(uses.begin() + first_use[b], uses.begin() + first_use[b + 1], [&](const Use& x, const Use& y) {
        return at(plan_.ranges, x.range).begin < at(plan_.ranges, y.range).begin;
      });
      for (std::int64_t u = first_use[b]; u < first_use[b + 1]; ++u) {
        const Use& use = at(uses, u);
        for (std::int64_t i = at(first_route, use.list); i < at(first_route, use.list + 1); ++i) {
          RESHARD_TRY(deliver(at(routes, i), at(plan_.ranges, use.range)));
        }
      }
      RESHARD_TRY(check_reached(id));
    }
    return {};
  }

  /// Fills lists_ with the different (first range, number of ranges) that routes have; which of them each distinct one
  /// has.
  std::vector<std::int32_t> find_lists() {
    std::unordered_map<std::int64_t, std::map<std::int32_t, std::int32_t>> known;  // by first range, by number
    std::vector<std::int32_t> list_of_route;
    list_of_route.reserve(plan_.routes.distinct().size());
    for (const Route& route : plan_.routes.distinct()) {
      const auto [entry, is_new] =
          known[route.first_range].try_emplace(route.num_ranges, static_cast<std::int32_t>(lists_.size()));
      if (is_new) lists_.emplace_back(route.first_range, route.num_ranges);
      list_of_route.push_back(entry->second);
    }
    return list_of_route;
  }

  /// Sorts items by their group, keeping their order: `for_each` calls add(group, item) for each, the same each time.
  /// Those of group g are at [result[g], result[g + 1]).
  template <typename Item, typename ForEach>
  static std::vector<std::int64_t> group(std::size_t num_groups, std::vector<Item>& items, const ForEach& for_each) {
    std::vector<std::int64_t> first(num_groups + 1);
    for_each([&](std::int32_t g, const Item&) { ++at(first, g + 1); });
    std::partial_sum(first.begin(), first.end(), first.begin());
    items.resize(static_cast<std::size_t>(first.back()));
    std::vector<std::int64_t> next(first.begin(), first.end() - 1);
    for_each([&](std::int32_t g, const Item& item) { at(items, at(next, g)++) = item; });
    return first;
  }

  /// A range comes to all ranks to which a distinct route brings it, for each of its receivers.
  Status deliver(std::int64_t distinct, const Range& range) {
    const std::vector<std::int32_t>& receivers = segment_of(distinct)->receivers;
    const Route& route = at(plan_.routes.distinct(), distinct);
    for (std::int64_t h = route.first_hop; h < route.first_hop + route.num_hops; ++h) {
      const Hop& hop = at(plan_.hops, h);
      if (hop.to_staging) continue;
      for (const std::int32_t receiver : receivers) {
        RESHARD_TRY(arrive(hop.dst == kReceiver ? receiver : hop.dst, range));
      }
    }
    return {};
  }

  Status arrive(std::int32_t rank, const Range& range) {
    Arrived& before = at(arrived_, rank);
    if (before.bundle != range.bundle) {
      before = {range.bundle, 0};
      ++num_reached_;
    }
    if (before.end != range.begin) return not_once(range.bundle, rank, std::min(before.end, range.begin));
    before.end = range.end;
    return {};
  }

  Status not_once(std::int32_t bundle, std::int32_t rank, std::int64_t byte) const {
    return {RESHARD_ERR_INTERNAL,
            fmt::format("the routes do not bring bundle {} to rank {} exactly once: byte {} of {}", bundle, rank, byte,
                        at(plan_.bundles, bundle).size_bytes)};
  }

  /// Whether all of the bundle came to those that need it, and nothing of it to others.
  Status check_reached(std::int32_t id) const {
    const Bundle& bundle = at(plan_.bundles, id);
    std::int64_t num_wanting = 0;
    const auto is_wanting = [&](std::int32_t rank) {
      return bundle.size_bytes > 0 && !plan_.sets.contains(bundle.sources, rank);
    };
    for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) {
      if (!is_wanting(rank)) continue;
      ++num_wanting;
      const Arrived& all = at(arrived_, rank);
      const std::int64_t end = all.bundle == id ? all.end : 0;
      if (end != bundle.size_bytes) return not_once(id, rank, end);
    }
    // All that want it have it, so if more ranks were reached, some did not want it: find one for the message.
    if (num_wanting == num_reached_) return {};
    std::int32_t rank = 0;
    while (at(arrived_, rank).bundle != id || (plan_.sets.contains(bundle.destinations, rank) && is_wanting(rank))) {
      ++rank;
    }
    return {RESHARD_ERR_INTERNAL,
            fmt::format("the routes bring bundle {} to rank {}, which does not need it", id, rank)};
  }

  const Plan& plan_;
  std::vector<Segment> segments_;
  std::int64_t known_ranges_ = 0;  // those up to here are some route's
  std::int64_t known_hops_ = 0;
  std::vector<std::pair<std::int64_t, std::int32_t>> lists_;  // of ranges: first, number
  std::vector<Arrived> arrived_;                              // by rank
  std::int64_t num_reached_ = 0;                              // ranks, of the bundle at hand
  // Of the route at hand; members, so that millions of routes do not allocate them anew.
  std::vector<bool> is_used_;
  std::vector<std::int32_t> reached_;
};

}  // namespace

Status check_routes(const Plan& plan) {
  return RouteChecker(plan).run();
}

}  // namespace reshard
