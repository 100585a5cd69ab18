// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/replan.h"
#include "src/plan/replan/kin.h"

namespace reshard {

/// How much of the new plan is not as the old one has it. A hop is unchanged as far as the old plan has it, for the
/// same bytes.
/// @param is_kept by old bundle: whether its routes are what they were, so that nobody need look
Changes count_changes(const Plan& old, const Plan& now, const std::vector<Kin>& kin, const std::vector<bool>& is_kept);

}  // namespace reshard
