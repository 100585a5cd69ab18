// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A new plan that keeps what it can of an old one. A bundle is kept or planned anew as a whole. Those that are kept
// have their routes cut (prune) and what these do written down (Kept); the ordinary stages then plan the rest around
// them. In the worst case nothing is kept, and the plan is as one made from nothing.
//
// By whole bundles, since that is how the stages ask what is done already: Kept::serves() knows ranks of a bundle, not
// pieces of it.
#include "src/plan/replan.h"

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/direct/direct.h"
#include "src/plan/direct/keep.h"
#include "src/plan/prune.h"
#include "src/plan/replan/changes.h"
#include "src/plan/replan/match.h"
#include "src/plan/replan/replan_with.h"
#include "src/plan/routing.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

class Replanner {
 public:
  Replanner(const Plan& old, BundleMatch* match, Plan* now)
      : old_(old),
        now_(*now),
        machine_(routing_machine(old)),
        network_(machine_),
        domains_(machine_, now->sets),
        match_(match->now_of),
        is_same_(match->has_same_destinations) {}

  Status run() {
    now_.first_groups = old_.first_groups;
    now_.splits_slow_domains = old_.splits_slow_domains;
    drop_what_cannot_stay();
    keep_routes();
    return add_routes(kept_, &now_);
  }

 private:
  void drop_what_cannot_stay() {
    for (std::size_t b = 0; b < match_.size(); ++b) {
      if (match_[b] < 0 || is_same_[b]) continue;
      if (!can_keep(old_.bundles[b], at(now_.bundles, match_[b]))) match_[b] = -1;
    }
    // A route that cannot be cut takes its bundles' other routes with it: who serves a rank is settled by bundle. Those
    // may carry other bundles beside, so this is done until nothing changes; each turn loses a bundle, so it ends.
    for (bool changed = true; changed;) {
      changed = false;
      for (const Route& route : old_.routes) {
        for (const Range& range : old_.ranges_of(route)) {
          std::int32_t& match = at(match_, range.bundle);
          if (match < 0 || at(is_same_, range.bundle) || cut(route, match).has_value()) continue;
          match = -1;
          changed = true;
        }
      }
    }
  }

  /// Not if a rank is new in a domain that others of the bundle's ranks are in: it is served from the same landings.
  /// Stages that follow may so take one rank of a domain for all of them.
  bool can_keep(const Bundle& before, const Bundle& after) const {
    std::set<std::int32_t> served;
    for (const std::int32_t rank : old_.sets.ranks(before.destinations)) {
      if (now_.sets.contains(after.destinations, rank)) served.insert(at(machine_.gpus, rank).domain);
    }
    for (const std::int32_t rank : now_.sets.ranks(after.destinations)) {
      if (old_.sets.contains(before.destinations, rank) || now_.sets.contains(after.sources, rank)) continue;
      const std::int32_t domain = at(machine_.gpus, rank).domain;
      if (served.count(domain) > 0 && !domains_.touches(after.sources, domain)) return false;
    }
    return true;
  }

  /// A route as the new plan's bundle has it: without the ranks that do not want it any more. Ranks that want it since
  /// then are none of its business: can_keep() let through only those that the other stages serve.
  std::optional<std::vector<Hop>> cut(const Route& route, std::int32_t bundle) const {
    const std::vector<Hop> hops(old_.begin_hops(route), old_.begin_hops(route) + route.num_hops);
    const std::int32_t wanted = at(now_.bundles, bundle).destinations;
    std::vector<bool> is_wanted;
    for (const Hop& hop : hops) is_wanted.push_back(now_.sets.contains(wanted, hop.dst));
    if (std::all_of(hops.begin(), hops.end(), [&](const Hop& hop) {
          return hop.to_staging || is_wanted[static_cast<std::size_t>(&hop - hops.data())];
        })) {
      return hops;
    }
    return prune(network_, hops, is_wanted);
  }

  /// Puts the old routes that stay into the new plan, before any other, and adds up what they do.
  void keep_routes() {
    kept_.served.resize(now_.bundles.size());
    kept_.in_bytes.resize(static_cast<std::size_t>(now_.num_ranks));
    kept_.out_bytes.resize(static_cast<std::size_t>(now_.num_ranks));
    for (const Route& route : old_.routes) {
      if (keep_whole(route)) continue;
      std::map<std::int32_t, std::vector<Range>> by_audience;  // ranges whose bundles lost the same ranks stay together
      for (Range range : old_.ranges_of(route)) {
        range.bundle = at(match_, range.bundle);
        // Bundles keep their stream, byte by byte, so that ranges hold as they are.
        if (range.bundle >= 0) by_audience[at(now_.bundles, range.bundle).destinations].push_back(range);
      }
      for (const auto& [audience, ranges] : by_audience) keep(route, ranges);
    }
    for (std::vector<std::int32_t>& ranks : kept_.served) {
      std::sort(ranks.begin(), ranks.end());
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    }
  }

  /// Most routes of most plans: all of its bundles stay, for the same ranks, so that it is as it was, hop by hop.
  bool keep_whole(const Route& route) {
    std::vector<Range> ranges(old_.ranges_of(route).begin(), old_.ranges_of(route).end());
    for (Range& range : ranges) {
      const std::int32_t match = at(match_, range.bundle);
      if (match < 0 || !at(is_same_, range.bundle)) return false;
      range.bundle = match;
    }
    add(route, {old_.begin_hops(route), old_.begin_hops(route) + route.num_hops}, ranges);
    return true;
  }

  /// Adds the route with these of its ranges, as far as it still serves anybody.
  void keep(const Route& route, const std::vector<Range>& ranges) {
    const std::vector<Hop> hops = *cut(route, ranges.front().bundle);
    if (!hops.empty()) add(route, hops, ranges);
  }

  /// Adds a route with these hops and ranges to the new plan, and books what it does: bytes at the ports where it
  /// crosses domains, and the ranks that have the ranges' bundles from it. Rounds come later, with those of all routes.
  void add(const Route& route, const std::vector<Hop>& hops, const std::vector<Range>& ranges) {
    Route made;
    made.first_range = static_cast<std::int64_t>(now_.ranges.size());
    made.first_hop = static_cast<std::int64_t>(now_.hops.size());
    made.num_ranges = static_cast<std::int32_t>(ranges.size());
    made.num_hops = static_cast<std::int32_t>(hops.size());
    made.first_group = route.first_group;
    for (const Range& range : ranges) made.size_bytes += range.end - range.begin;
    for (const Hop& hop : hops) {
      if (!machine_.same_domain(RankId(hop.src), RankId(hop.dst))) {
        at(kept_.in_bytes, hop.dst) += made.size_bytes;
        at(kept_.out_bytes, hop.src) += made.size_bytes;
      }
      if (hop.to_staging) continue;
      for (const Range& range : ranges) at(kept_.served, range.bundle).push_back(hop.dst);
    }
    now_.ranges.insert(now_.ranges.end(), ranges.begin(), ranges.end());
    now_.hops.insert(now_.hops.end(), hops.begin(), hops.end());
    now_.routes.push_back(made);
  }

  const Plan& old_;
  Plan& now_;
  Machine machine_;  // that the routes of both plans are chosen on
  Network network_;
  DomainSets domains_;
  std::vector<std::int32_t>& match_;  // by old bundle: the new one that keeps its routes
  const std::vector<bool>& is_same_;  // by old bundle: and for the same ranks
  Kept kept_;
};

/// Keeps what routes it can and adds what they do not do. On a machine a bundle's routes may go on together where those
/// of some ranks cannot: then all are chosen anew.
Status route_again(const Plan& old, BundleMatch* match, Plan* now) {
  if (old.options.machine != nullptr) {
    Plan kept = *now;
    if (Replanner(old, match, &kept).run().ok() && check_routes(kept).ok()) {
      *now = std::move(kept);
      return {};
    }
    return choose_routes(now);
  }
  const direct::Kept kept = direct::keep_routes(old, &match->now_of, now);
  direct::add_routes(kept, now);
  return {};
}

}  // namespace

Result<Plan> replan_with(const Plan& old, std::shared_ptr<const ModelLayout> src,
                         std::shared_ptr<const ModelLayout> dst, const Unchanged* unchanged, Changes* changes) {
  *changes = {};
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), old.options, unchanged));
  if (plan.num_ranks != old.num_ranks) {
    return Status(RESHARD_ERR_LAYOUT_MISMATCH, "the world of the older plan has another number of ranks; plan anew");
  }
  // What is kept is proved again like all else: check_routes() does not know what is new.
  BundleMatch match = match_bundles(old, plan);
  RESHARD_TRY(route_again(old, &match, &plan));
  *changes = count_changes(old, plan, match);
  RESHARD_TRY(check_routes(plan));
  fit_windows(&plan);
  plan.hash = hash_plan(plan);
  return plan;
}

Result<Plan> replan(const Plan& old, std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                    Changes* changes) {
  return replan_with(old, std::move(src), std::move(dst), nullptr, changes);
}

}  // namespace reshard
