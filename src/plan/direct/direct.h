// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Routes where no machine is known: ranks are equal and alone, every copy goes straight from a holder to the rank that
// lacks it, and all that is chosen is which holder sends which bytes. Nothing is relayed or scheduled: without links
// there is no telling what that would gain. Windows go by group and number.
#pragma once

#include "src/plan/direct/needs.h"

namespace reshard::direct {

/// Sets ranges, hops, routes, first_groups and most_in_flight. @pre the plan has no machine
void choose_routes(Plan* plan);

/// The same for a plan that has routes already, which stay: adds what they do not do.
void add_routes(const Kept& kept, Plan* plan);

}  // namespace reshard::direct
