// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "topology/host.h"

namespace reshard {
namespace {

struct TopologyDeleter {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyDeleter>;

Status hwloc_failed(reshard_status_t code, const char* what) {
  return {code, fmt::format("hwloc: {} failed: {}", what, std::strerror(errno))};
}

Result<Topology> make_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_init");
  Topology topology(raw);
  // Without a filter hwloc leaves every device out; "important" keeps GPUs and NICs and drops bridges without devices.
  if (hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) != 0) {
    return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_set_io_types_filter");
  }
  return topology;
}

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
  RESHARD_TRY(const Topology topology, make_topology());
  if (hwloc_topology_load(topology.get()) != 0) {
    return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_load of this host");
  }
  return read_topology(topology.get());
}

Result<HostInfo> host_from_xml(const std::string& xml) {
  if (xml.size() >= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return invalid_argument(fmt::format("hwloc XML of {} bytes is longer than hwloc takes", xml.size()));
  }
  RESHARD_TRY(const Topology topology, make_topology());
  // hwloc counts the terminating zero. Some builds parse here, others only in load.
  const int size = static_cast<int>(xml.size()) + 1;
  if (hwloc_topology_set_xmlbuffer(topology.get(), xml.c_str(), size) != 0 ||
      hwloc_topology_load(topology.get()) != 0) {
    return hwloc_failed(RESHARD_ERR_INVALID_ARGUMENT, "reading the XML text (hwloc 2 is needed, not 3)");
  }
  return read_topology(topology.get());
}

}  // namespace reshard
