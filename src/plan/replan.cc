// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A new plan that keeps what it can of an old one. On a machine the old trees are where the router begins; without one,
// each bundle that has the same holders keeps its routes, as far as they still serve anybody. In the worst case nothing
// is kept, and the plan is as one made from nothing.
#include "src/plan/replan.h"

#include <algorithm>
#include <iterator>

#include "src/plan/direct/direct.h"
#include "src/plan/direct/keep.h"
#include "src/plan/replan/changes.h"
#include "src/plan/replan/match.h"
#include "src/plan/replan/replan_with.h"
#include "src/plan/routing.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

/// Whether the new layouts ask for what the old ones did.
bool is_unchanged(const Plan& old, const Plan& now, const BundleMatch& match) {
  return old.bundles.size() == now.bundles.size() &&
         std::all_of(match.has_same_destinations.begin(), match.has_same_destinations.end(),
                     [](bool is) { return is; });
}

/// As it was, but for the numbers of bundles.
void keep_all(const Plan& old, const BundleMatch& match, Plan* now) {
  now->ranges = old.ranges;
  for (Range& range : now->ranges) range.bundle = at(match.now_of, range.bundle);
  now->hops = old.hops;
  now->routes = old.routes;
  now->rounds = old.rounds;
  now->first_groups = old.first_groups;
  now->most_in_flight = old.most_in_flight;
}

/// Those who want a bundle and do not hold it.
std::vector<std::int32_t> lacking(const Plan& plan, const Bundle& bundle) {
  const std::vector<std::int32_t>& wanted = plan.sets.ranks(bundle.destinations);
  const std::vector<std::int32_t>& held = plan.sets.ranks(bundle.sources);
  std::vector<std::int32_t> out;
  std::set_difference(wanted.begin(), wanted.end(), held.begin(), held.end(), std::back_inserter(out));
  return out;
}

/// Without a machine each who lacks a bundle gets it in one hop, the same as before if the bundle is matched and they
/// lacked it then. No look at routes is needed, of which there are millions.
Changes count_direct(const Plan& old, const Plan& now, const std::vector<std::int32_t>& now_of) {
  std::vector<std::int32_t> old_of(now.bundles.size(), -1);
  for (std::size_t b = 0; b < now_of.size(); ++b) {
    if (now_of[b] >= 0) at(old_of, now_of[b]) = static_cast<std::int32_t>(b);
  }
  Changes changes;
  for (std::size_t b = 0; b < now.bundles.size(); ++b) {
    const Bundle& bundle = now.bundles[b];
    std::vector<std::int32_t> ranks = lacking(now, bundle);
    if (ranks.empty() || bundle.size_bytes == 0) continue;
    ++changes.bundles;
    changes.routed_bytes += bundle.size_bytes;
    changes.bytes += bundle.size_bytes * std::ssize(ranks);
    if (old_of[b] < 0) {
      changes.rerouted_bytes += bundle.size_bytes;
    } else {
      const std::int32_t before = at(old.bundles, old_of[b]).destinations;
      std::erase_if(ranks, [&](std::int32_t rank) { return old.sets.contains(before, rank); });
    }
    changes.bundles_changed += ranks.empty() ? 0 : 1;
    changes.bytes_changed += bundle.size_bytes * std::ssize(ranks);
  }
  return changes;
}

/// Sets the plan's routes, and how much of them is new.
Status route_again(const Plan& old, Plan* now, Changes* changes) {
  BundleMatch match = match_bundles(old, *now);
  if (is_unchanged(old, *now, match)) {
    keep_all(old, match, now);
    if (now->options.machine == nullptr) {
      *changes = count_direct(old, *now, match.now_of);
      return {};
    }
    *changes = count_changes(old, *now, find_kin(old, *now), match.has_same_destinations);
    for (const Bundle& bundle : now->bundles) {
      changes->routed_bytes += lacking(*now, bundle).empty() ? 0 : bundle.size_bytes;
    }
    return {};
  }
  if (now->options.machine == nullptr) {
    const direct::Kept kept = direct::keep_routes(old, &match.now_of, now);
    direct::add_routes(kept, now);
    *changes = count_direct(old, *now, match.now_of);
    return {};
  }
  Changes rerouted;
  RESHARD_TRY(choose_routes_again(old, now, &rerouted));
  *changes = count_changes(old, *now, find_kin(old, *now), std::vector<bool>(old.bundles.size()));
  changes->routed_bytes = rerouted.routed_bytes;
  changes->rerouted_bytes = rerouted.rerouted_bytes;
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
  RESHARD_TRY(route_again(old, &plan, changes));
  // What is kept is proved again like all else: check_routes() does not know what is new.
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
