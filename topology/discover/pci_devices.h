// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/base/status.h"
#include "topology/pairing.h"

namespace reshard {

/// A PCI device of a host, with the kernel's names for it.
struct PciDevice {
  std::string address;  ///< "0000:1b:00", without the function
  DevicePlace at;       ///< without links: the speeds that hwloc finds are not those of PCIe 5
  std::uint32_t vendor = 0;
  std::uint32_t device = 0;
  std::vector<std::string> interfaces{};  ///< "eth0"
  std::vector<std::string> verbs{};       ///< "mlx5_0"
};

/// The PCI devices of this host that have names or are GPUs, or those of the host that a recorded hwloc 2 XML text
/// describes. Errors: RESHARD_ERR_NOT_SUPPORTED in a build without hwloc, RESHARD_ERR_INTERNAL when hwloc fails,
/// RESHARD_ERR_INVALID_ARGUMENT for a text that it does not take.
Result<std::vector<PciDevice>> pci_devices(const std::string& hwloc_xml);

}  // namespace reshard
