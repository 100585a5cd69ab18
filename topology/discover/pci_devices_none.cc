// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// In the place of pci_devices_hwloc.cc in a build without hwloc: such a build describes machines by files and presets.
#include "topology/discover/pci_devices.h"

namespace reshard {

Result<std::vector<PciDevice>> pci_devices(const std::string&) {
  return Status(RESHARD_ERR_NOT_SUPPORTED, "this build has no hwloc; install libhwloc-dev and build again");
}

}  // namespace reshard
