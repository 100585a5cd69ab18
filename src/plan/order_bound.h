// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/bounds.h"
#include "src/plan/domain_sets.h"

namespace reshard {

/// LB11, for receivers that take groups in a fixed order with at most k = open_groups open at once, the ranks of a
/// domain together, as servers do that install layer by layer. (Ranks of a domain that each went through the groups at
/// their own pace could be faster; by ranks the bound would be weaker by the number of ranks that share a layer.)
///
/// Take the domains that need the same bundles, and of these bundles those that no other domain needs. A byte of group
/// g comes to the first of them from a source. The one that is furthest has received all groups but the last k, so
/// first arrivals are only ever of k consecutive groups: while one of group g is under way, all come from holders of
/// groups g - k + 1 to g + k - 1. Let r(g) be the least of the rate out of these holders' domains and into all domains
/// of the class; then the sum over g of bytes(g) / r(g) is a lower bound. (P s / min(B, E) of lock-step layer order is
/// not one: classes that start one after the other keep several stages busy.) 0 where orders may rotate: then it is no
/// more than LB2.
Bound order_bound(const Plan& plan, const DomainSets& domains);

}  // namespace reshard
