// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// How much of a plan came from an older one.
struct Changes {
  std::int64_t bundles = 0;          ///< that cross ranks
  std::int64_t bundles_changed = 0;  ///< of which some byte takes another way than before, or none did
  std::int64_t tensors = 0;          ///< of an update: that the destination has
  std::int64_t tensors_changed = 0;  ///< of which some element lies elsewhere than before
  std::int64_t bytes = 0;            ///< over all hops
  std::int64_t bytes_changed = 0;    ///< on hops that the older plan has not got
  std::int64_t routed_bytes = 0;     ///< that cross ranks, each counted once, to however many ranks it goes
  /// Of those, which go by another tree than before, or had none. A tree is the same if only ranks are gone from it, or
  /// have joined it.
  std::int64_t rerouted_bytes = 0;
};

/// A plan for layouts that differ little from those of `old`, e.g. by a replica lost or added, with the options and the
/// machine of `old`. On a machine the trees of the old plan are the start: whom a rank fed that is gone is fed by what
/// came before it, a rank that is new joins them; from there bytes move to other trees, until the plan is nearly as
/// quick as one made anew. A rank that holds and wants nothing any more is still one of the world, by whose port bytes
/// may pass. Without a machine bundles that have the same holders and hold the same elements keep their
/// routes, and the rest is planned anew, around their loads. If nothing has changed, neither does the plan. Errors as
/// create_plan.
Result<Plan> replan(const Plan& old, std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                    Changes* changes);

/// By tensor of `now`: whether the tensor with its number in `old` has the same shape, dtype and scales, and the same
/// elements in the same places on every rank, buffers by number.
std::vector<bool> same_places(const ModelLayout& old, const ModelLayout& now);

/// The same for a destination whose tensors lie elsewhere, as after a new table of experts: the source is that of
/// `old`. Errors as replan(), and RESHARD_ERR_LAYOUT_MISMATCH where a tensor is not what it was.
Result<Plan> update_plan(const Plan& old, const std::shared_ptr<const ModelLayout>& dst, Changes* changes);

}  // namespace reshard
