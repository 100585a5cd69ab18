// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "topology/node_type.h"

namespace reshard {

/// Where a device hangs in its node: memory node, bridges, the device itself, from the root on; ids are unique per
/// level and parent. The longer the common beginning of two, the closer they are.
struct DevicePlace {
  std::vector<std::int32_t> path;
  std::vector<Link> links;  ///< of each entry of path to the one before
  /// Beside PCI, to the first entry of path: NVLink-C2C.
  std::optional<Link> to_cpu{};
};

struct NicPlace {
  NodeType::Nic nic;
  DevicePlace at;
  std::int32_t rail = -1;   ///< -1: not said
  std::int32_t plane = -1;  ///< likewise
};

/// Gives the GPUs of a node their ports. NICs serve those GPUs that are closest to them and that no closer NIC serves:
/// several NICs for a GPU make one port, fewer NICs than GPUs are shared. A GPU that is left takes the closest port.
/// Then sets what PCIe there is between a GPU and its port, and the rails: as NICs say, else one for each port.
/// @param gpu_places by GPU of `node`, whose ports are empty before
void pair_gpus_and_nics(const std::vector<DevicePlace>& gpu_places, const std::vector<NicPlace>& nics, NodeType* node,
                        std::vector<std::string>* warnings);

}  // namespace reshard
