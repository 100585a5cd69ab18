// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/replan.h"
#include "src/plan/replan/match.h"

namespace reshard {

/// How much of the new plan is not as the old one has it. A hop is unchanged as far as the old plan has it, for the
/// same bytes. Bundles that are matched and have the same destinations are taken to have kept their routes.
Changes count_changes(const Plan& old, const Plan& now, const BundleMatch& match);

}  // namespace reshard
