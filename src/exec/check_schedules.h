// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <span>

#include "src/base/status.h"
#include "src/exec/schedule.h"

namespace reshard {

/// Proves on the steps of all ranks of a plan, [r] for rank r, that a run of them ends: what one end of a hop does the
/// other end expects, every slot is released, and no steps wait for one another in a circle, however few messages are
/// in flight. RESHARD_ERR_INTERNAL names the first step that is wrong. Time and memory grow with the number of windows
/// of all ranks, so this is for tests.
Status check_schedules(std::span<const Schedule> schedules);

}  // namespace reshard
