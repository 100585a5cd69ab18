// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/exits.h"

namespace reshard {

/// Makes the plan's routes of passages: those that take the same way are one route. They are added behind those that
/// the plan has already (of an older plan), as are their ranges and hops. @pre Plan::first_groups is set
void build_routes(const Network& network, const DomainSets& domains, const Passages& passages, Plan* plan);

}  // namespace reshard
