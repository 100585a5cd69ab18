// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "topology/discover/discover.h"
#include "topology/discover/pci_devices.h"
#include "topology/pairing.h"

namespace reshard {

/// RDMA devices that are up, if there are any; else network interfaces that are, those with PCI first: in a container
/// there may be others only. NICs of less than half the fastest one's speed are left out, for they manage or boot.
/// Errors: a NIC whose speed neither the kernel nor the options know, by name.
Result<std::vector<NicPlace>> find_nics(const std::vector<PciDevice>& devices, const DiscoverOptions& options,
                                        std::vector<std::string>* warnings);

}  // namespace reshard
