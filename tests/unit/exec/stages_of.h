// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/exec/stages.h"

namespace reshard::testing {

/// The stages of all ranks at the levels that they agree on.
inline std::vector<StageSchedule> stages_of(const Plan& plan, const std::vector<Schedule>& schedules,
                                            const StageLimits& limits) {
  StageLevels levels;
  for (const Schedule& schedule : schedules) levels.raise(needed_levels(plan, schedule, limits));
  std::vector<StageSchedule> stages;
  for (const Schedule& schedule : schedules) stages.push_back(build_stages(plan, schedule, levels, limits));
  return stages;
}

}  // namespace reshard::testing
