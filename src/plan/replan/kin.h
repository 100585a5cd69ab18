// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Bytes of a new plan's bundle that are bytes of an old plan's, in the same order, whoever has and wants them now.
struct Kin {
  Range now;
  std::int32_t old_bundle = -1;
  std::int64_t old_begin = 0;
};

/// All that two plans of the same source tensors have in common, by bundle of the new one, and begin. Bundles that are
/// composed alike are found as wholes. Of others, as where ranks are lost that told two bundles apart, those atoms are
/// found that have the same box in both.
std::vector<Kin> find_kin(const Plan& old, const Plan& now);

}  // namespace reshard
