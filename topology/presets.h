// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/base/status.h"
#include "topology/node_type.h"

namespace reshard {

/// A kind of node that is sold, with the speeds that planning counts on.
struct Preset {
  NodeType node;
  std::int32_t domain_nodes = 1;
};

/// "host" (one process) or one of the GPU nodes. Errors: an unknown name; the message lists the known ones.
Result<Preset> find_preset(const std::string& name);

/// In the order in which messages list them.
std::vector<std::string> preset_names();

}  // namespace reshard
