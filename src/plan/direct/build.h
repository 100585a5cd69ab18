// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/direct/senders.h"

namespace reshard::direct {

/// Makes the plan's routes of sendings: one for each pair of ranks. They are added behind those that the plan has
/// already (of an older plan), as are their ranges and hops. @pre Plan::first_groups is set
void build_routes(const Sendings& sendings, Plan* plan);

}  // namespace reshard::direct
