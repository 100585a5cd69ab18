// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/plan.h"

#include "src/base/hasher.h"
#include "src/layout/overlap.h"
#include "src/plan/atoms.h"
#include "src/plan/sources.h"
#include "src/plan/windows.h"

namespace reshard {

Result<Plan> prepare_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                          const PlanOptions& options) {
  Plan plan;
  plan.src = std::move(src);
  plan.dst = std::move(dst);
  plan.options = options;
  RESHARD_TRY(check_no_overlap(*plan.dst));
  RESHARD_TRY(intersect_layouts(&plan));
  RESHARD_TRY(choose_windows(&plan));
  plan.pools = make_pools(plan);
  return plan;
}

Result<Plan> create_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                         const PlanOptions& options) {
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), options));
  choose_sources(&plan);
  plan.hash = hash_plan(plan);
  return plan;
}

std::uint64_t hash_plan(const Plan& plan) {
  // The layouts determine everything but the choices; those follow.
  Hasher hasher;
  hasher.add(static_cast<std::int64_t>(plan.src->digest()));
  hasher.add(static_cast<std::int64_t>(plan.dst->digest()));
  hasher.add(plan.options.staging_bytes);
  hasher.add(plan.window_bytes);
  hasher.add(plan.num_slots);
  hasher.add(plan.certificate.level_bytes);
  hasher.add(plan.certificate.bound_bytes);
  for (const Pool& pool : plan.pools) {
    hasher.add(static_cast<std::int64_t>(pool.shares.size()));
    for (const Share& share : pool.shares) {
      hasher.add(share.rank);
      hasher.add(share.begin);
      hasher.add(share.end);
    }
  }
  return hasher.digest();
}

}  // namespace reshard
