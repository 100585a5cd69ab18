// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Which bundles of an old plan are also bundles of a new one: with the same holders and the same elements.
struct BundleMatch {
  std::vector<std::int32_t> now_of;         ///< by old bundle, that of the new plan; -1: none
  std::vector<bool> has_same_destinations;  ///< by old bundle
};

BundleMatch match_bundles(const Plan& old, const Plan& now);

}  // namespace reshard
