// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "src/plan/plan.h"

namespace reshard {

/// What the plan converts, kind by kind of tensor (names with their numbers replaced by *): where and why, and the
/// bytes that cross ranks of these tensors and their scales, over all hops, beside those that they would be in BF16. An
/// empty list for a plan without.
nlohmann::json quantised_json(const Plan& plan);

}  // namespace reshard
