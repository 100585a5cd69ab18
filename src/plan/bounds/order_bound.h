// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/bounds/bounds.h"
#include "src/plan/domain_sets.h"

namespace reshard {

/// LB11, for receivers that take groups in a fixed order with at most k = open_groups open at once on each rank.
///
/// Take the ranks that need the same bundles (a class), and of these bundles those that no other rank needs and no
/// domain of the class holds. A byte of group g comes to the first rank of the class from a holder; relays on the way
/// only pass windows on. Groups are numbered as the class takes them: one that it needs nothing of is never open, and
/// leaves room for the next. The rank of the class that is furthest, with group f open, has received all up to f - k,
/// so bytes that come to the class for the first time are then of groups f - k + 1 to f. While one of group g is under
/// way, all such bytes are therefore of groups g - k + 1 to g + k - 1. Let r(g) be the least of the rate out of these
/// groups' holders' domains, the rate into the domains of the class and that into its ranks: no more comes per second
/// while group g is under way, so the sum over g of bytes(g) / r(g) is a lower bound.
///
/// By ranks, not by domains: nothing keeps the ranks of a domain in step, and where each goes through the groups at its
/// own pace, several stages of the sender are busy. Nor is P s / min(B, E), the time of P stages of s bytes in lock
/// step, a bound: classes that start one after the other keep several stages busy. 0 where orders may rotate: then it
/// is no more than LB2.
Bound order_bound(const Plan& plan, const DomainSets& domains);

}  // namespace reshard
