// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/direct/needs.h"

namespace reshard::direct {

/// Puts into the new plan, before any other, those routes of an older one that stay: with the bundles that are matched,
/// to ranks that want them still. Sets Plan::first_groups, with which these routes begin.
/// @param match by bundle of the old plan, the same one of the new; becomes -1 where none of its routes can stay
Kept keep_routes(const Plan& old, std::vector<std::int32_t>* match, Plan* now);

}  // namespace reshard::direct
