// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/routing/audience.h"
#include "src/plan/routing/prices.h"
#include "src/plan/routing/tree.h"

namespace reshard::routing {

/// Of how many ranks, holders included, a tree may be for with_cheapest_feeds(), which looks at all pairs.
inline constexpr std::size_t kMostFed = 24;

/// The tree with each rank fed by who is cheapest at these prices, of all that have the bytes and do not have them from
/// that rank. A tree that grew domain by domain brings most ranks of a domain their bytes from within; where links are
/// slower than ports this mends it.
Tree with_cheapest_feeds(const Tree& tree, const Audience& audience, const Fabric& fabric, const Uses& uses,
                         const Prices& prices);

}  // namespace reshard::routing
