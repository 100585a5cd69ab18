// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A matched bundle has the same holders, so all routes that bring it to a rank stay, or none: who is served by them is
// served with the whole bundle.
#include "src/plan/direct/keep.h"

#include <algorithm>

#include "src/plan/range_lists.h"

namespace reshard::direct {
namespace {

/// A plan that was read from a file may relay, machine or not; what it relays is planned anew.
void drop_relayed(const Plan& old, std::vector<std::int32_t>* match) {
  for (const Route& route : old.routes.distinct()) {
    if (route.num_hops == 1) continue;
    for (const Range& range : old.ranges_of(route)) at(*match, range.bundle) = -1;
  }
}

class Keeper {
 public:
  Keeper(const Plan& old, const std::vector<std::int32_t>& match, Plan* now)
      : old_(old), match_(match), now_(*now), range_lists_(now), made_of_(old.routes.distinct().size(), -1) {
    kept_.served.resize(now_.bundles.size());
    kept_.out_bytes.resize(static_cast<std::size_t>(now_.num_ranks));
  }

  Kept run() {
    for (std::size_t run = 0; run < old_.routes.runs().size(); ++run) {
      const Routes::Run& routes = old_.routes.runs()[run];
      for (std::int64_t i = 0; i < old_.routes.size_of(run); ++i) keep(routes.first_distinct + i, routes.receiver);
    }
    for (std::vector<std::int32_t>& ranks : kept_.served) {
      std::sort(ranks.begin(), ranks.end());
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    }
    return std::move(kept_);
  }

 private:
  /// Keeps of a route what is still wanted. One that is repeated for many receivers is so again, where all of it stays.
  void keep(std::int64_t distinct, std::int32_t receiver) {
    const Route& route = at(old_.routes.distinct(), distinct);
    Hop hop = at(old_.hops, route.first_hop);
    const bool is_repeated = hop.dst == kReceiver;
    if (is_repeated) hop.dst = receiver;
    collect(route, hop.dst);
    if (ranges_.empty()) return;
    book(hop);
    if (!is_repeated || std::ssize(ranges_) < route.num_ranges) {
      now_.routes.push_back(make(route, hop));
      return;
    }
    std::int64_t& made = at(made_of_, distinct);
    if (made < 0) {
      hop.dst = kReceiver;
      made = std::ssize(now_.routes.distinct());
      now_.routes.keep(make(route, hop));
    }
    now_.routes.repeat(made, 1, receiver);
  }

  /// Into ranges_, what stays. Bundles keep their stream, byte by byte, so that ranges hold as they are.
  void collect(const Route& route, std::int32_t receiver) {
    ranges_.clear();
    for (Range range : old_.ranges_of(route)) {
      range.bundle = at(match_, range.bundle);
      if (range.bundle < 0 || !now_.sets.contains(at(now_.bundles, range.bundle).destinations, receiver)) continue;
      ranges_.push_back(range);
    }
  }

  void book(const Hop& hop) {
    for (const Range& range : ranges_) {
      at(kept_.out_bytes, hop.src) += range.end - range.begin;
      at(kept_.served, range.bundle).push_back(hop.dst);
    }
  }

  Route make(const Route& old, const Hop& hop) {
    Route route;
    route.first_range = range_lists_.place_of(ranges_);
    route.num_ranges = static_cast<std::int32_t>(ranges_.size());
    for (const Range& range : ranges_) route.size_bytes += range.end - range.begin;
    route.first_hop = std::ssize(now_.hops);
    route.num_hops = 1;
    route.first_group = old.first_group;
    now_.hops.push_back(hop);
    return route;
  }

  const Plan& old_;
  const std::vector<std::int32_t>& match_;
  Plan& now_;
  RangeLists range_lists_;
  std::vector<std::int64_t> made_of_;  // by distinct route of the old plan, the new one; -1: none yet
  std::vector<Range> ranges_;          // of the route that is looked at
  Kept kept_;
};

}  // namespace

Kept keep_routes(const Plan& old, std::vector<std::int32_t>* match, Plan* now) {
  drop_relayed(old, match);
  now->first_groups = old.first_groups;
  return Keeper(old, *match, now).run();
}

}  // namespace reshard::direct
