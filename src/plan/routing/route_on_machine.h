// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard::routing {

/// Chooses the routes of a plan that has a machine: sets ranges, hops, routes and first_groups. Errors as
/// reshard_plan_create documents.
Status route_on_machine(Plan* plan);

}  // namespace reshard::routing
