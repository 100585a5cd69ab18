// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/replan.h"

namespace reshard {

/// replan(), for layouts of which the caller knows what lies where it did; `unchanged` may be null.
Result<Plan> replan_with(const Plan& old, std::shared_ptr<const ModelLayout> src,
                         std::shared_ptr<const ModelLayout> dst, const Unchanged* unchanged, Changes* changes);

}  // namespace reshard
