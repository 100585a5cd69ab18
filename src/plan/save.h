// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

#include "src/plan/plan.h"

namespace reshard {

/// The plan's decisions as text. What follows from the layouts alone (atoms, bundles) is not stored, nor are layouts
/// and machine: only their digests, by which load_plan() tells whether it was given the right ones.
std::string save_plan(const Plan& plan);

/// The plan that `text` was saved from, for the same layouts and machine. RESHARD_ERR_PLAN_MISMATCH when the layouts,
/// the machine, the format version or the content differ, so that a damaged file cannot become a wrong transfer.
Result<Plan> load_plan(const std::string& text, std::shared_ptr<const ModelLayout> src,
                       std::shared_ptr<const ModelLayout> dst, std::shared_ptr<const Machine> machine);

}  // namespace reshard
