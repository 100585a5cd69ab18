// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "topology/presets.h"
#include "topology/read/config.h"

namespace reshard {

/// A node type of a cluster file: a preset, an NCCL file, or a list of GPUs and NICs. Files lie beside `file`.
Result<Preset> read_node_type(const ConfigValue& value, const std::string& name, const std::string& file,
                              std::vector<std::string>* warnings);

/// The path of a file that another one names.
std::string beside(const std::string& file, const std::string& named);

}  // namespace reshard
