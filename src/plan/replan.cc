// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A new plan that keeps what it can of an old one. On a machine the old trees are where the router begins; without one,
// each bundle that has the same holders keeps its routes, as far as they still serve anybody. In the worst case nothing
// is kept, and the plan is as one made from nothing.
#include "src/plan/replan.h"

#include <algorithm>

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
  now->certificate = old.certificate;
  now->most_in_flight = old.most_in_flight;
}

/// Bytes of the bundles that cross ranks, as far as they are to be counted.
std::int64_t crossing_bytes(const Plan& plan, const std::vector<bool>& is_counted) {
  std::int64_t sum = 0;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    const std::vector<std::int32_t>& wanted = plan.sets.ranks(bundle.destinations);
    const std::vector<std::int32_t>& held = plan.sets.ranks(bundle.sources);
    if (is_counted[b] && !std::includes(held.begin(), held.end(), wanted.begin(), wanted.end()))
      sum += bundle.size_bytes;
  }
  return sum;
}

/// Sets the plan's routes, and how much of them is new.
Status route_again(const Plan& old, Plan* now, Changes* changes) {
  BundleMatch match = match_bundles(old, *now);
  const std::vector<Kin> kin = find_kin(old, *now);
  if (is_unchanged(old, *now, match)) {
    keep_all(old, match, now);
    *changes = count_changes(old, *now, kin, match.has_same_destinations);
    changes->routed_bytes = crossing_bytes(*now, std::vector<bool>(now->bundles.size(), true));
    return {};
  }
  if (now->options.machine != nullptr) {
    Changes rerouted;
    RESHARD_TRY(choose_routes_again(old, now, &rerouted));
    *changes = count_changes(old, *now, kin, std::vector<bool>(old.bundles.size()));
    changes->routed_bytes = rerouted.routed_bytes;
    changes->rerouted_bytes = rerouted.rerouted_bytes;
    return {};
  }
  const direct::Kept kept = direct::keep_routes(old, &match.now_of, now);
  direct::add_routes(kept, now);
  std::vector<bool> is_kept = match.has_same_destinations;
  for (std::size_t b = 0; b < is_kept.size(); ++b) is_kept[b] = is_kept[b] && match.now_of[b] >= 0;
  *changes = count_changes(old, *now, kin, is_kept);
  std::vector<bool> is_new(now->bundles.size(), true);
  changes->routed_bytes = crossing_bytes(*now, is_new);
  for (const std::int32_t known : match.now_of) {
    if (known >= 0) is_new[static_cast<std::size_t>(known)] = false;
  }
  changes->rerouted_bytes = crossing_bytes(*now, is_new);
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
