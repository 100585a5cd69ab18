// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "src/plan/plan.h"

namespace reshard {
namespace {

// A window's place in the order has a round and a hop's delay added up, in 32 bits.
constexpr std::int32_t kMostRounds = 1 << 30;

/// Bytes of a bundle that come to a rank to stay.
struct Arrival {
  std::int32_t rank;
  std::int64_t begin;
  std::int64_t end;
  auto key() const { return std::tuple{rank, begin, end}; }
  bool operator<(const Arrival& other) const { return key() < other.key(); }
};

/// A range in a list of ranges that some routes share.
struct Use {
  std::int64_t range;
  std::int32_t list;
};

Status broken(std::size_t route, const std::string& what) {
  return {RESHARD_ERR_INTERNAL, fmt::format("route {} of the plan {}", route, what)};
}

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
    std::int64_t known_ranges = 0;  // those up to here are some route's
    std::int64_t first_hop = 0;
    for (std::size_t r = 0; r < plan_.routes.size(); ++r) {
      const Route& route = plan_.routes[r];
      const bool is_in_order = route.first_range >= 0 && route.first_range <= known_ranges &&
                               route.first_hop == first_hop && route.num_ranges > 0 && route.num_hops > 0;
      if (!is_in_order) return broken(r, "does not follow the one before it");
      known_ranges = std::max(known_ranges, route.first_range + route.num_ranges);
      first_hop += route.num_hops;
      if (known_ranges > size(plan_.ranges) || first_hop > size(plan_.hops))
        return broken(r, "has parts that are not there");
      if (const std::string what = check(route); !what.empty()) return broken(r, what);
    }
    if (known_ranges != size(plan_.ranges) || first_hop != size(plan_.hops)) {
      return broken(plan_.routes.size(), "is missing");
    }
    return check_arrivals();
  }

 private:
  template <typename T>
  static std::int64_t size(const std::vector<T>& items) {
    return static_cast<std::int64_t>(items.size());
  }

  /// What is wrong with a route; empty when nothing is.
  std::string check(const Route& route) {
    std::int64_t bytes = 0;
    for (std::int32_t i = 0; i < route.num_ranges; ++i) {
      const Range& range = plan_.begin_ranges(route)[i];
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

  /// Rounds ascend, for windows follow each other in them.
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

  std::string check(const Route& route, std::int32_t index) {
    const Hop* hops = plan_.begin_hops(route);
    const Hop& hop = hops[index];
    const auto is_rank = [&](std::int32_t rank) { return rank >= 0 && rank < plan_.num_ranks; };
    if (!is_rank(hop.src) || !is_rank(hop.dst) || hop.src == hop.dst) return "has a hop between ranks that are none";
    if (hop.parent >= index || hop.parent < -1) return "has a hop before the one that feeds it";
    const bool is_first = hop.parent < 0;
    if (!is_first && hops[hop.parent].dst != hop.src) return "has a hop from a rank that the bytes do not reach";
    if (hop.step != (is_first ? 0 : hops[hop.parent].step + 1)) return "has a hop with the wrong step";
    if (!is_first && hops[hop.parent].to_staging && hop.delay != hops[hop.parent].delay) {
      return fmt::format("keeps bytes in the staging of rank {} for {} rounds", hop.src,
                         hop.delay - hops[hop.parent].delay);
    }
    if (!hop.to_staging && plan_.options.open_groups > 0 && at(plan_.first_groups, hop.dst) != route.first_group) {
      return fmt::format("begins with group {} and its receiver {} with group {}", route.first_group, hop.dst,
                         at(plan_.first_groups, hop.dst));
    }
    if (hop.delay < (is_first ? 0 : hops[hop.parent].delay)) return "has a hop before its bytes are there";
    for (std::int32_t i = 0; i < route.num_ranges; ++i) {
      const Range& range = plan_.begin_ranges(route)[i];
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
    std::vector<std::int64_t> routes;
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
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      arrivals_.clear();
      for (std::int64_t u = first_use[b]; u < first_use[b + 1]; ++u) {
        const Use& use = at(uses, u);
        for (std::int64_t i = at(first_route, use.list); i < at(first_route, use.list + 1); ++i) {
          add_arrivals(at(plan_.routes, at(routes, i)), at(plan_.ranges, use.range));
        }
      }
      std::sort(arrivals_.begin(), arrivals_.end());
      RESHARD_TRY(check_arrivals_of(static_cast<std::int32_t>(b)));
    }
    return {};
  }

  /// Fills lists_ with the different (first range, number of ranges) that routes have; which of them each route has.
  std::vector<std::int32_t> find_lists() {
    std::unordered_map<std::int64_t, std::map<std::int32_t, std::int32_t>> known;  // by first range, by number
    std::vector<std::int32_t> list_of_route;
    list_of_route.reserve(plan_.routes.size());
    for (const Route& route : plan_.routes) {
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

  void add_arrivals(const Route& route, const Range& range) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan_.begin_hops(route)[h];
      if (!hop.to_staging) arrivals_.push_back({hop.dst, range.begin, range.end});
    }
  }

  Status check_arrivals_of(std::int32_t id) const {
    const Bundle& bundle = at(plan_.bundles, id);
    auto arrival = arrivals_.begin();
    for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) {
      if (bundle.size_bytes == 0 || plan_.sets.contains(bundle.sources, rank)) continue;
      std::int64_t position = 0;
      for (; arrival != arrivals_.end() && arrival->rank == rank; ++arrival) {
        if (arrival->begin != position) break;
        position = arrival->end;
      }
      if (position == bundle.size_bytes) continue;
      return {RESHARD_ERR_INTERNAL,
              fmt::format("the routes do not bring bundle {} to rank {} exactly once: byte {} of {}", id, rank,
                          position, bundle.size_bytes)};
    }
    if (arrival == arrivals_.end()) return {};
    return {
        RESHARD_ERR_INTERNAL,
        fmt::format("the routes bring bundle {} to rank {} too often, or where nobody wants it", id, arrival->rank)};
  }

  const Plan& plan_;
  std::vector<std::pair<std::int64_t, std::int32_t>> lists_;  // of ranges: first, number
  // Of the route or bundle at hand; members, so that millions of routes do not allocate them anew.
  std::vector<bool> is_used_;
  std::vector<std::int32_t> reached_;
  std::vector<Arrival> arrivals_;
};

}  // namespace

Status check_routes(const Plan& plan) {
  return RouteChecker(plan).run();
}

}  // namespace reshard
