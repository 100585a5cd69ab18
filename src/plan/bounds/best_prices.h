// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/bounds/bounds.h"
#include "src/plan/domain_sets.h"

namespace reshard::bounds {

/// LB9: the best that prices prove (prices/price_bound.h) of those that the loads suggest, by resource.
/// @param known_seconds by the other bounds
Bound best_prices(const Plan& plan, const DomainSets& domains, const std::vector<std::int64_t>& loads,
                  double known_seconds);

}  // namespace reshard::bounds
