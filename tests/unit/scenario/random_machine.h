// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>

#include "src/base/status.h"
#include "tests/unit/scenario/scenario.h"
#include "topology/machine.h"

namespace reshard::testing {

/// A small random machine: nodes of 1 to 4 ranks, domains of half a node to two nodes, ports that are shared, slow or
/// missing, one leaf or several with scarce uplinks, rails joined or isolated. Every domain has a port.
std::shared_ptr<const Machine> make_random_machine(Choices* choices, std::int32_t num_ranks);

/// True of the refusal of a plan because the machine's rails are isolated and two ranks share none.
bool is_out_of_reach(const Status& status);

}  // namespace reshard::testing
