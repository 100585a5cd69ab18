// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A plan is made in steps: what follows from the layouts (prepare_plan), the choices (choose_routes), their proof
// (check_routes), which plans that are loaded or made anew must pass as well, and the size of windows (fit_windows).
#include "src/plan/plan.h"

#include "src/base/hasher.h"
#include "src/layout/overlap.h"
#include "src/plan/atoms.h"
#include "src/plan/routing.h"
#include "src/plan/windows.h"

namespace reshard {

/// Hops of distinct routes lie one route after the other, so those of a run of routes are one piece of Plan::hops; it
/// ends where the first route behind the run begins.
Plan::RunHops Plan::hops_of(std::size_t run) const {
  const std::vector<Route>& distinct = routes.distinct();
  const Routes::Run& those = routes.runs()[run];
  const std::int64_t after = those.first_distinct + routes.size_of(run);
  const std::int64_t begin = at(distinct, those.first_distinct).first_hop;
  const bool is_last = after == static_cast<std::int64_t>(distinct.size());
  const std::int64_t end = is_last ? static_cast<std::int64_t>(hops.size()) : at(distinct, after).first_hop;
  return {{hops.data() + begin, those.receiver}, end - begin};
}

std::int64_t Plan::num_hops() const {
  std::int64_t count = 0;
  for (std::size_t run = 0; run < routes.runs().size(); ++run) count += hops_of(run).count;
  return count;
}

/// The destination is checked for overlaps here and not when it is built: blocks may come in any order, and only a plan
/// writes to them.
Result<Plan> prepare_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                          const PlanOptions& options, const Unchanged* unchanged) {
  Plan plan;
  plan.src = std::move(src);
  plan.dst = std::move(dst);
  plan.options = options;
  RESHARD_TRY(check_no_overlap(*plan.dst));
  RESHARD_TRY(choose_conversions(&plan));
  RESHARD_TRY(intersect_layouts(&plan, unchanged));
  RESHARD_TRY(choose_windows(&plan));
  return plan;
}

Result<Plan> create_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                         const PlanOptions& options) {
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), options));
  RESHARD_TRY(choose_routes(&plan));
  RESHARD_TRY(check_routes(plan));
  fit_windows(&plan);
  plan.hash = hash_plan(plan);
  return plan;
}

std::uint64_t hash_plan(const Plan& plan) {
  // The layouts determine everything but the choices; those follow.
  Hasher hasher;
  // What two ranks would have to agree on to understand each other's messages: the same bytes (digests), cut alike
  // (windows, slots), sent the same way in the same order (routes, rounds, orders of groups). And the options and
  // figures that a plan is loaded with, so that a changed file is noticed.
  hasher.add(static_cast<std::int64_t>(plan.src->digest()));
  hasher.add(static_cast<std::int64_t>(plan.dst->digest()));
  hasher.add(plan.options.staging_bytes);
  hasher.add(plan.window_bytes);
  hasher.add(plan.num_slots);
  hasher.add(plan.most_in_flight);
  hasher.add(plan.options.machine == nullptr ? 0 : static_cast<std::int64_t>(plan.options.machine->digest()));
  hasher.add(static_cast<std::int64_t>(plan.options.order));
  hasher.add(plan.options.open_groups);
  hasher.add_all(plan.first_groups);
  hasher.add_all(plan.rounds);
  for (const Route& route : plan.routes) {
    for (const std::int64_t value :
         {std::int64_t{route.num_ranges}, std::int64_t{route.num_hops}, route.size_bytes,
          std::int64_t{route.first_group}, std::int64_t{route.first_round}, std::int64_t{route.num_rounds}}) {
      hasher.add(value);
    }
  }
  // Route by route: which routes are repeated, and which share a list of ranges, is no choice, only how it is kept.
  for (const Route& route : plan.routes) {
    for (const Range& range : plan.ranges_of(route)) {
      for (const std::int64_t value : {std::int64_t{range.bundle}, range.begin, range.end}) hasher.add(value);
    }
  }
  for (std::size_t run = 0; run < plan.routes.runs().size(); ++run) {
    auto [hop, count] = plan.hops_of(run);
    for (std::int64_t h = 0; h < count; ++h, ++hop) {
      const Hop& leg = *hop;
      for (const std::int32_t value : {leg.src, leg.dst, leg.parent, leg.delay, leg.step, leg.to_staging ? 1 : 0}) {
        hasher.add(value);
      }
    }
  }
  return hasher.digest();
}

}  // namespace reshard
