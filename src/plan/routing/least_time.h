// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/plan/routing/solve.h"

namespace reshard::routing {

/// A time that the demands take whatever is chosen: into each rank, and into and out of each domain. The scale of the
/// first prices, when nothing is loaded yet; above 0.
/// @param num_sections how often the job is repeated in a larger one, of which the time then is
Time least_time(const Plan& plan, const Fabric& fabric, const DomainSets& domains, const std::vector<Demand>& demands,
                std::size_t num_sections = 1);

}  // namespace reshard::routing
