// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "topology/gpu_model.h"
#include "topology/node_type.h"

namespace reshard {

/// What a reader knows of a GPU's NVLinks.
struct GpuLinks {
  std::string address;             ///< that peers name it by
  bool is_switched = false;        ///< some lead to switches, which all such GPUs of a node share
  std::vector<std::string> peers;  ///< GPUs that others lead to
  std::optional<Link> link;        ///< all of them together; none: it has no NVLink
};

/// Sets the links of the GPUs of `node`, and their groups: those that NVLink joins, in the order of their first GPUs.
/// GPUs without NVLink reach each other by PCIe, as one group behind.
void group_gpus(const std::vector<GpuLinks>& links, NodeType* node, std::vector<std::string>* warnings);

}  // namespace reshard
