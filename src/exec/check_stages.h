// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <span>

#include "src/base/status.h"
#include "src/exec/stages.h"

namespace reshard {

/// Proves on the stages of all ranks of a plan, [r] for rank r, that a run of them is right and ends: every window is
/// in one stage, of the same key at both ends and in the same order; what is given on is there, in a lower stage; no
/// slot is used by two windows at once; limits are kept; no more groups are open than may be; and nothing waits for its
/// own stage or a later one. RESHARD_ERR_INTERNAL names the first step that is wrong. Time and memory grow with the
/// number of windows of all ranks, so this is for tests.
Status check_stages(std::span<const StageSchedule> stages, const StageLimits& limits);

}  // namespace reshard
