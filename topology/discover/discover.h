// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The machine as it is found and not described: for a single host, or as one node's part of a cluster, whose ranks then
// exchange what each has found.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "topology/node_type.h"

namespace reshard {

struct DiscoverOptions {
  std::int64_t nic_bytes_per_s = 0;  ///< of NICs whose speed the kernel does not know; 0: those are an error
  std::string nvml_library = "libnvidia-ml.so.1";
  // For tests, which lay out a host of their own.
  std::string sysfs = "/sys";
  std::string hwloc_xml;  ///< a recorded host in place of this one
};

struct DiscoveredNode {
  NodeType node;
  std::string domain_id;              ///< of NVLink across nodes: cluster and clique; "": none
  std::vector<std::string> warnings;  ///< what was taken with doubt; for the caller to show
};

/// This node: NICs and PCI through hwloc, their speeds from the kernel, GPUs and NVLink through NVML where its library
/// is. Without GPUs it is a host whose processes share memory. NICs without PCI, and those that are down, are left out.
/// Errors: RESHARD_ERR_NOT_SUPPORTED without hwloc; a NIC of unknown speed, by name; what NVML refuses.
Result<DiscoveredNode> discover_node(const DiscoverOptions& options = {});

}  // namespace reshard
