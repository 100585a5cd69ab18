// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/price_bound.h"

namespace reshard::bounds {

/// A bound, and the prices by resource of the machine that prove it.
struct Certificate {
  PriceBound bound{0, 1};
  std::vector<std::uint64_t> prices;
};

/// The best bound among prices that follow from the loads of some plan, by resource. Loads of any plan, or none, give a
/// true bound; those of a good plan give a high one, since what is busy in it is what should be dear.
/// @param known_seconds that other bounds prove: where these are near what the loads take, few prices are tried, for
/// many ranks the quick way (quick_price_bound), and for many thousands of ranks none
Certificate certify(const routing::Fabric& fabric, const Task& task, const std::vector<std::int64_t>& loads,
                    double known_seconds);

}  // namespace reshard::bounds
