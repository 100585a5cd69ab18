// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// What a host is made of, as far as placing ranks and choosing links needs it.
struct HostInfo {
  std::string hostname;
  int num_cores = 0;
  int num_numa_nodes = 0;
  std::int64_t l3_bytes = 0;        ///< of the largest single L3 cache; 0 when there is none
  std::vector<std::string> nics{};  ///< names the kernel gives, e.g. "eth0", "mlx5_0"
  std::vector<std::string> gpus{};  ///< PCI address and ids, e.g. "0000:12:00.0 10de:2330"
};

/// This host. Errors: RESHARD_ERR_NOT_SUPPORTED in a build without hwloc, RESHARD_ERR_INTERNAL when hwloc fails.
Result<HostInfo> discover_host();

/// The host that a recorded hwloc 2 XML text describes.
/// Errors: as above, and RESHARD_ERR_INVALID_ARGUMENT for a text that hwloc does not take.
Result<HostInfo> host_from_xml(const std::string& xml);

/// One line: "h1: 2 cores, 1 NUMA node, L3 32 MiB, 1 NIC (eth0), no GPUs".
std::string to_string(const HostInfo& host);

}  // namespace reshard
