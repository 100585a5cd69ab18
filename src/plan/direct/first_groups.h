// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard::direct {

/// Sets first_groups: with which group each rank's order begins, where receivers accept rotated orders and the groups
/// come from different sources in turn (pipeline stages). If all began with group 0, one stage would send to all
/// replicas while the others wait for their turn, and P stages would take up to P times as long. So counterparts in
/// different replicas begin with different stages' groups, and all stages send at once.
void choose_first_groups(Plan* plan);

}  // namespace reshard::direct
