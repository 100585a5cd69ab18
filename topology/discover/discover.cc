// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Puts together what three sources know of this host: hwloc the PCI tree, the kernel the NICs' speeds, the driver
// (NVML) the GPUs and their NVLinks. They meet in the PCI address, which all of them tell.
#include "topology/discover/discover.h"

#include <fmt/format.h>

#include <algorithm>

#include "topology/discover/nic_finder.h"
#include "topology/discover/nvml.h"
#include "topology/discover/pci_devices.h"
#include "topology/link_groups.h"
#include "topology/presets.h"

namespace reshard {
namespace {

/// A host without GPUs: its processes will share its memory and its NICs.
Result<NodeType> make_host(const std::vector<NicPlace>& nics) {
  RESHARD_TRY(const Preset host, find_preset("host"));
  NodeType node;
  node.name = "host";
  node.shared_memory = host.node.shared_memory;
  for (const NicPlace& nic : nics) {
    node.ports.push_back({static_cast<std::int32_t>(node.ports.size()), {nic.nic}});
  }
  return node;
}

DevicePlace place_of(const NvmlGpu& gpu, const std::vector<PciDevice>& devices, std::vector<std::string>* warnings) {
  const std::string address = pci_address(gpu.domain, gpu.bus, gpu.slot);
  const auto found =
      std::find_if(devices.begin(), devices.end(), [&](const PciDevice& device) { return device.address == address; });
  DevicePlace place;
  // For instance in a container whose /sys does not show what its driver does.
  if (found == devices.end()) {
    warnings->push_back(fmt::format("GPU {} is at no known place; all NICs count as equally far", address));
    return place;
  }
  place.path = found->at.path;
  // One for each step of the path; only the last, the device's own, is known, and the others count as without limit.
  place.links.resize(place.path.size());
  if (!place.links.empty()) place.links.back() = pcie_link(gpu.pcie_generation, gpu.pcie_width);
  return place;
}

Result<NodeType> make_gpu_node(const std::vector<NvmlGpu>& gpus, const std::vector<PciDevice>& devices,
                               const std::vector<NicPlace>& nics, std::vector<std::string>* warnings) {
  NodeType node;
  node.name = "discovered";
  std::vector<DevicePlace> places;
  std::vector<GpuLinks> links;
  for (const NvmlGpu& gpu : gpus) {
    const std::string address = pci_address(gpu.domain, gpu.bus, gpu.slot);
    const GpuModel* by_device = find_gpu_device(gpu.pci_device);
    const GpuModel* model = by_device != nullptr ? by_device : find_gpu_model(gpu.sm);
    // A guess of the speed would make plans that are wrong and look right; PCIe alone would hide most of the machine.
    const std::int64_t count = gpu.switch_links + static_cast<std::int64_t>(gpu.peer_links.size());
    if (count > 0 && (model == nullptr || model->num_nvlinks == 0)) {
      return Status(RESHARD_ERR_NOT_SUPPORTED,
                    fmt::format("GPU {} has NVLinks, and their speed is not known for sm {}", address, gpu.sm));
    }
    node.gpus.emplace_back();
    node.gpus.back().memory = memory_link(model == nullptr ? kUnlimited : model->memory_bytes_per_s);
    if (gpu.switch_links > 0) node.gpus.back().multicast_permille = model->multicast_permille;
    places.push_back(place_of(gpu, devices, warnings));
    links.push_back({address, gpu.switch_links > 0, gpu.peer_links, {}});
    if (count > 0) links.back().link = nvlinks(*model, count);
  }
  pair_gpus_and_nics(places, nics, &node, warnings);
  group_gpus(links, &node, warnings);
  return node;
}

}  // namespace

Result<DiscoveredNode> discover_node(const DiscoverOptions& options) {
  RESHARD_TRY(const std::vector<PciDevice> devices, pci_devices(options.hwloc_xml));
  RESHARD_TRY(const std::vector<NvmlGpu> gpus, nvml_gpus(options.nvml_library));
  DiscoveredNode discovered;
  RESHARD_TRY(const std::vector<NicPlace> nics, find_nics(devices, options, &discovered.warnings));
  if (gpus.empty()) {
    RESHARD_TRY(discovered.node, make_host(nics));
  } else {
    RESHARD_TRY(discovered.node, make_gpu_node(gpus, devices, nics, &discovered.warnings));
  }
  // GPUs of one node in different domains cannot be said to be in one with another node's.
  for (const NvmlGpu& gpu : gpus) {
    if (gpu.fabric != gpus.front().fabric) {
      return Status(RESHARD_ERR_NOT_SUPPORTED,
                    fmt::format("GPUs of this node are in several NVLink domains: \"{}\", \"{}\"", gpus.front().fabric,
                                gpu.fabric));
    }
    discovered.domain_id = gpu.fabric;
  }
  RESHARD_TRY(check(discovered.node));
  return discovered;
}

}  // namespace reshard
