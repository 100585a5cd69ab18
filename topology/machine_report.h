// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "topology/machine.h"

namespace reshard {

/// A machine as JSON text: counts, rates of its kinds of links, what its reader took with doubt.
std::string machine_json(const Machine& machine, const std::vector<std::string>& warnings);

}  // namespace reshard
