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
#include <tuple>

#include "src/plan/prune.h"
#include "src/plan/routing.h"

namespace reshard {
namespace {

/// Tells bundles of two plans apart by holders and content. Their numbers mean nothing across plans: one bundle more
/// shifts all that follow.
class BundleMatcher {
 public:
  BundleMatcher(const Plan& old, const Plan& now) : old_(old), now_(now) {
    for (std::size_t b = 0; b < now.bundles.size(); ++b) {
      if (!now.strands(now.bundles[b]).empty()) by_key_.emplace(key(now, now.bundles[b]), static_cast<std::int32_t>(b));
    }
  }

  /// The bundle of the new plan that equals this one of the old, destinations apart; -1 when there is none.
  std::int32_t match(std::int32_t bundle) const {
    const Bundle& mine = at(old_.bundles, bundle);
    const Strands my_strands = old_.strands(mine);
    if (my_strands.empty()) return -1;
    const auto found = by_key_.find(key(old_, mine));
    if (found == by_key_.end()) return -1;
    // The key compares only the first element; from here on all are compared, box by box.
    const Bundle& other = at(now_.bundles, found->second);
    const Strands its_strands = now_.strands(other);
    if (mine.size_bytes != other.size_bytes || my_strands.size() != its_strands.size()) return -1;
    for (std::size_t s = 0; s < my_strands.size(); ++s) {
      if (!equal(my_strands[s], its_strands[s])) return -1;
    }
    return found->second;
  }

 private:
  using Key = std::tuple<std::int64_t, std::vector<std::int64_t>, std::vector<std::int32_t>>;

  /// The source tensor and place of a bundle's first element, and its holders. An element lies in one bundle of a plan,
  /// so that its place finds at most one candidate; whether all else is the same, equal() says.
  static Key key(const Plan& plan, const Bundle& bundle) {
    const Strand first = plan.strands(bundle)[0];
    const PlanTensor& tensor = at(plan.tensors, first.tensor);
    const Box& box = at(at(plan.classes, tensor.atom_class).atoms, first.first_atom).box;
    return {tensor.src, {box.begin.values, box.begin.values + box.num_dims}, plan.sets.ranks(bundle.sources)};
  }

  bool equal(const Strand& a, const Strand& b) const {
    const PlanTensor& mine = at(old_.tensors, a.tensor);
    const PlanTensor& other = at(now_.tensors, b.tensor);
    if (mine.src != other.src || mine.group != other.group || mine.wire_bytes != other.wire_bytes) return false;
    if (a.num_atoms != b.num_atoms) return false;
    for (std::int32_t i = 0; i < a.num_atoms; ++i) {
      const Box& box = at(at(old_.classes, mine.atom_class).atoms, a.first_atom + i).box;
      if (!(box == at(at(now_.classes, other.atom_class).atoms, b.first_atom + i).box)) return false;
    }
    return true;
  }

  const Plan& old_;
  const Plan& now_;
  std::map<Key, std::int32_t> by_key_;
};

class Replanner {
 public:
  Replanner(const Plan& old, Plan* now, Changes* changes)
      : old_(old),
        now_(*now),
        changes_(*changes),
        machine_(routing_machine(old)),
        network_(machine_),
        domains_(machine_, now->sets) {}

  Status run() {
    now_.first_groups = old_.first_groups;
    now_.splits_slow_domains = old_.splits_slow_domains;
    match_bundles();
    keep_routes();
    RESHARD_TRY(add_routes(kept_, &now_));
    count_changes();
    return {};
  }

 private:
  void match_bundles() {
    const BundleMatcher matcher(old_, now_);
    for (std::size_t b = 0; b < old_.bundles.size(); ++b) match_.push_back(matcher.match(static_cast<std::int32_t>(b)));
    for (std::size_t b = 0; b < match_.size(); ++b) {
      if (match_[b] >= 0 && !can_keep(old_.bundles[b], at(now_.bundles, match_[b]))) match_[b] = -1;
    }
    // A route that cannot be cut takes its bundles' other routes with it: who serves a rank is settled by bundle. Those
    // may carry other bundles beside, so this is done until nothing changes; each turn loses a bundle, so it ends.
    for (bool changed = true; changed;) {
      changed = false;
      for (const Route& route : old_.routes) {
        for (const Range& range : old_.ranges_of(route)) {
          std::int32_t& match = at(match_, range.bundle);
          if (match < 0 || cut(route, match).has_value()) continue;
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

  /// Adds the route with these of its ranges to the new plan, and books what it does: bytes at the ports where it
  /// crosses domains, and the ranks that have the ranges' bundles from it. Rounds come later, with those of all routes.
  void keep(const Route& route, const std::vector<Range>& ranges) {
    const std::vector<Hop> hops = *cut(route, ranges.front().bundle);
    if (hops.empty()) return;
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

  /// By old bundle and pair of ranks: bytes. A hop of the new plan is unchanged as far as the old one has it. Each byte
  /// of the old plan is used up once, so that doubled traffic counts as changed.
  void count_changes() {
    std::vector<std::int32_t> old_of(now_.bundles.size(), -1);
    for (std::size_t b = 0; b < match_.size(); ++b) {
      if (match_[b] >= 0) at(old_of, match_[b]) = static_cast<std::int32_t>(b);
    }
    std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::int64_t> before;
    for (const Route& route : old_.routes) {
      for_each_leg(old_, route, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
        before[{bundle, hop.src, hop.dst}] += bytes;
      });
    }
    std::set<std::int32_t> all;
    std::set<std::int32_t> changed;
    for (const Route& route : now_.routes) {
      for_each_leg(now_, route, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
        all.insert(bundle);
        changes_.bytes += bytes;
        std::int64_t same = 0;
        const auto found = before.find({at(old_of, bundle), hop.src, hop.dst});
        if (found != before.end()) {
          same = std::min(bytes, found->second);
          found->second -= same;
        }
        changes_.bytes_changed += bytes - same;
        if (same < bytes) changed.insert(bundle);
      });
    }
    changes_.bundles = static_cast<std::int64_t>(all.size());
    changes_.bundles_changed = static_cast<std::int64_t>(changed.size());
  }

  template <typename Visit>
  static void for_each_leg(const Plan& plan, const Route& route, const Visit& visit) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      for (const Range& range : plan.ranges_of(route)) {
        visit(range.bundle, plan.begin_hops(route)[h], range.end - range.begin);
      }
    }
  }

  const Plan& old_;
  Plan& now_;
  Changes& changes_;
  Machine machine_;  // that the routes of both plans are chosen on
  Network network_;
  DomainSets domains_;
  std::vector<std::int32_t> match_;  // by old bundle: the new one that keeps its routes
  Kept kept_;
};

}  // namespace

Result<Plan> replan(const Plan& old, std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                    Changes* changes) {
  *changes = {};
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), old.options));
  if (plan.num_ranks != old.num_ranks) {
    return Status(RESHARD_ERR_LAYOUT_MISMATCH, "the world of the older plan has another number of ranks; plan anew");
  }
  // What is kept is proved again like all else: check_routes() does not know what is new.
  RESHARD_TRY(Replanner(old, &plan, changes).run());
  RESHARD_TRY(check_routes(plan));
  plan.hash = hash_plan(plan);
  return plan;
}

}  // namespace reshard
