// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/routing/audience.h"
#include "src/plan/routing/own_prices.h"

namespace reshard::routing {

/// In which order a growing tree should enter the domains without holders, as indices of the audience's places. Cheap
/// senders come first, as they then serve the others: by pod, those with a holder before others, by leaf, and each by
/// itself; before all of them one that sends for less than any holder, even if the bytes cross leaves and pods to it
/// and back.
/// @param salt turns which of equal ones is taken
std::vector<std::size_t> order_of_entering(const Fabric& fabric, const Audience& audience, std::uint32_t salt,
                                           OwnPrices* prices);

}  // namespace reshard::routing
