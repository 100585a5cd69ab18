// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/bounds/bounds.h"
#include "src/plan/domain_sets.h"

namespace reshard {

/// LB5 for blocks, the nodes of the same leaf switches, and for pods: what is needed in one and held nowhere in it,
/// over its uplinks down; what only it holds and others need, over those up. Uplinks count as far as ports that ranks
/// have can fill them, on this side and on the other.
Bound leaf_bound(const Plan& plan, const DomainSets& domains);
Bound pod_bound(const Plan& plan, const DomainSets& domains);

}  // namespace reshard
