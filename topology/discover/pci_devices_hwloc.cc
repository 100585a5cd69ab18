// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// hwloc's tree as paths: a device's path is the chain of hwloc's objects from the root down to it, so that two devices
// are  as near as the beginnings of their paths agree (pairing.h).
#include <algorithm>
#include <mutex>

#include "topology/discover/hwloc_topology.h"
#include "topology/discover/nvml.h"
#include "topology/discover/pci_devices.h"

namespace reshard {
namespace {

PciDevice read_device(hwloc_obj_t object) {
  const auto& pci = object->attr->pcidev;
  PciDevice device;
  device.address = pci_address(static_cast<std::uint32_t>(pci.domain), pci.bus, pci.dev);
  device.vendor = pci.vendor_id;
  device.device = pci.device_id;
  // Ends below the root, which all paths share.
  for (hwloc_obj_t above = object; above->parent != nullptr; above = above->parent) {
    device.at.path.push_back(static_cast<std::int32_t>(above->gp_index));
  }
  std::reverse(device.at.path.begin(), device.at.path.end());
  for (hwloc_obj_t child = object->io_first_child; child != nullptr; child = child->next_sibling) {
    if (child->type != HWLOC_OBJ_OS_DEVICE || child->name == nullptr) continue;
    if (child->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK) device.interfaces.emplace_back(child->name);
    if (child->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS) device.verbs.emplace_back(child->name);
  }
  return device;
}

}  // namespace

Result<std::vector<PciDevice>> pci_devices(const std::string& hwloc_xml) {
  // What hwloc loads to ask for devices keeps state of its own, and ranks may be threads.
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  Result<HwlocTopology> topology = hwloc_xml.empty() ? load_topology() : load_topology(hwloc_xml);
  if (!topology.ok()) return topology.take_status();
  std::vector<PciDevice> devices;
  for (hwloc_obj_t object = nullptr; (object = hwloc_get_next_pcidev(topology->get(), object)) != nullptr;) {
    devices.push_back(read_device(object));
  }
  return devices;
}

}  // namespace reshard
