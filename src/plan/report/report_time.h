// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "src/plan/estimate.h"

namespace reshard {

/// The part of the report that only a plan with a machine has: estimate, bounds, link classes, routes.
nlohmann::json time_json(const Plan& plan, const Estimate& estimate);

}  // namespace reshard
