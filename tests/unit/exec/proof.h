// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <random>
#include <string>
#include <vector>

#include "src/exec/bind.h"
#include "src/exec/check_schedules.h"

namespace reshard::testing {

/// The schedules of all ranks where each rank reads a peer's source, or destination, in place with the probability
/// `percent`, as far as the plan lets it.
std::vector<Schedule> schedules_of(const Plan& plan, std::uint32_t percent, std::uint32_t seed = 1);

/// Proves for a plan that its runs end: where nothing is mapped, where everything is, and for two cases in between.
/// Empty: they do.
std::string prove(const Plan& plan);

/// Binding::create(), and on rank 0 the proof that what is bound cannot block.
Result<std::unique_ptr<Binding>> bind(BindOptions options);

}  // namespace reshard::testing
