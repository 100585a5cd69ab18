// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>

#include "topology/host.h"
#include "topology/hwloc_topology.h"

namespace reshard {
namespace {

using PciAttributes = hwloc_obj_attr_u::hwloc_pcidev_attr_s;

bool is_gpu(const PciAttributes& pci) {
  constexpr unsigned kDisplay = 0x03;
  constexpr unsigned kAccelerator = 0x12;
  constexpr unsigned kAspeed = 0x1a03;  // the screen of a server's management controller
  constexpr unsigned kMatrox = 0x102b;  // likewise
  const unsigned base_class = pci.class_id >> 8U;
  return (base_class == kDisplay || base_class == kAccelerator) && pci.vendor_id != kAspeed && pci.vendor_id != kMatrox;
}

std::int64_t largest_l3_bytes(hwloc_topology_t topology) {
  std::uint64_t largest = 0;
  for (hwloc_obj_t obj = nullptr; (obj = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_L3CACHE, obj)) != nullptr;) {
    largest = std::max<std::uint64_t>(largest, obj->attr->cache.size);
  }
  return static_cast<std::int64_t>(largest);
}

std::vector<std::string> gpus_of(hwloc_topology_t topology) {
  std::vector<std::string> gpus;
  for (hwloc_obj_t obj = nullptr; (obj = hwloc_get_next_pcidev(topology, obj)) != nullptr;) {
    const PciAttributes& pci = obj->attr->pcidev;
    if (!is_gpu(pci)) continue;
    gpus.push_back(fmt::format("{:04x}:{:02x}:{:02x}.{:x} {:04x}:{:04x}", pci.domain, pci.bus, pci.dev, pci.func,
                               pci.vendor_id, pci.device_id));
  }
  return gpus;
}

std::vector<std::string> nics_of(hwloc_topology_t topology) {
  std::vector<std::string> nics;
  for (hwloc_obj_t obj = nullptr; (obj = hwloc_get_next_osdev(topology, obj)) != nullptr;) {
    const hwloc_obj_osdev_type_t type = obj->attr->osdev.type;
    if (type == HWLOC_OBJ_OSDEV_NETWORK || type == HWLOC_OBJ_OSDEV_OPENFABRICS) nics.emplace_back(obj->name);
  }
  return nics;
}

HostInfo read_topology(hwloc_topology_t topology) {
  HostInfo host;
  const char* name = hwloc_obj_get_info_by_name(hwloc_get_root_obj(topology), "HostName");
  host.hostname = name == nullptr ? "unknown host" : name;
  host.num_cores = std::max(0, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE));
  host.num_numa_nodes = std::max(0, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE));
  host.l3_bytes = largest_l3_bytes(topology);
  host.nics = nics_of(topology);
  host.gpus = gpus_of(topology);
  return host;
}

}  // namespace

Result<HostInfo> discover_host() {
  RESHARD_TRY(const HwlocTopology topology, load_topology());
  return read_topology(topology.get());
}

Result<HostInfo> host_from_xml(const std::string& xml) {
  RESHARD_TRY(const HwlocTopology topology, load_topology(xml));
  return read_topology(topology.get());
}

}  // namespace reshard
