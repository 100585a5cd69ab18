// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/exits.h"

namespace reshard {

/// Adds what ranks take from holders in their own domain: over its links, no byte over the network. The holders of a
/// domain are filled by water. Adds to `passages` one of Relation::kNeighbour for each piece; nothing without a
/// machine, where every rank is a domain of its own.
void add_inside(const Plan& plan, const Network& network, const DomainSets& domains, const Kept& kept,
                Passages* passages);

}  // namespace reshard
