// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reads the elements of an NCCL topology: system, then one cpu for each NUMA node, below it PCI bridges as nested pci
// elements, in whose leaves GPUs and NICs stand. Two kinds of file occur: complete ones, which NCCL wrote on a machine,
// and skeletons, which a cloud gives its users and in which devices are PCI classes only.
#include "topology/read/nccl_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <pugixml.hpp>

#include "topology/gpu_model.h"
#include "topology/read/number.h"
#include "topology/read/position.h"

namespace reshard {
namespace {

using Xml = pugi::xml_node;

constexpr int kMostLevels = 32;  // of PCI bridges; this recursion is as deep
constexpr std::size_t kMostNodes = 4096;
constexpr std::size_t kMostWarnings = 100;
constexpr std::int64_t kMostLinks = 1000;  // of a GPU, to switches, GPUs or its CPU

/// Attributes of elements, with what is wrong about them.
class Elements {
 public:
  Elements(const std::string& text, const std::string& file) : text_(text), file_(file) {}

  /// "topo.xml:12:5: <pci busid="0000:12:00.0">"
  std::string where(Xml element) const {
    // pugixml counts from the name; the element begins with the bracket before it.
    const std::ptrdiff_t offset = element.offset_debug() - 1;
    std::string name = element.name();
    for (const char* key : {"busid", "name", "dev", "numaid"}) {
      const pugi::xml_attribute attribute = find(element, key);
      if (!attribute) continue;
      name += fmt::format(" {}=\"{:.40}\"", key, attribute.value());
      break;
    }
    return fmt::format("{}: <{}>", place(offset), name);
  }

  std::string place(std::ptrdiff_t offset) const {
    return position(text_, std::min(static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, offset)), text_.size()),
                    file_);
  }

  Status error(Xml element, const std::string& message) const {
    return invalid_argument(fmt::format("{}: {}", where(element), message));
  }

  /// An attribute that says something: NCCL writes an empty one where the system has no such file.
  static pugi::xml_attribute find(Xml element, const char* key) {
    const pugi::xml_attribute attribute = element.attribute(key);
    return *attribute.value() == '\0' ? pugi::xml_attribute() : attribute;
  }

  /// An integer attribute; `fallback` where there is none.
  Result<std::int64_t> integer(Xml element, const char* key, std::int64_t fallback, std::int64_t max) const {
    const pugi::xml_attribute attribute = find(element, key);
    if (!attribute) return fallback;
    return parse_integer(attribute.value(), -1, max, fmt::format("{}: {}", where(element), key));
  }

  /// A hexadecimal attribute, 0x030200; 0 where there is none.
  Result<std::uint32_t> hex(Xml element, const char* key) const {
    const pugi::xml_attribute attribute = find(element, key);
    if (!attribute) return std::uint32_t{0};
    const char* begin = attribute.value();
    if (std::strncmp(begin, "0x", 2) == 0) begin += 2;
    const char* end = begin + std::strlen(begin);
    std::uint32_t value = 0;
    const auto parsed = std::from_chars(begin, end, value, 16);
    if (parsed.ec == std::errc() && parsed.ptr == end) return value;
    return error(element, fmt::format("{} is \"{:.40}\"; give a hexadecimal number", key, attribute.value()));
  }

 private:
  const std::string& text_;
  const std::string& file_;
};

enum PciClass : std::uint32_t { kNetwork = 0x02, kDisplay = 0x03, kWireless = 0x0d };
constexpr std::uint32_t kNvidia = 0x10de;
// Network controllers that are none of the known kinds: what Wi-Fi cards call themselves, if not wireless.
constexpr std::uint32_t kOtherNetwork = 0x0280;

bool is_wireless(std::uint32_t pci_class) {
  return pci_class >> 8U == kOtherNetwork || pci_class >> 16U == kWireless;
}

// Walks down once. The way to a device, with the links on it, is its DevicePlace, from which pairing.h tells later
// which NIC is near which GPU.
class TreeReader {
 public:
  TreeReader(const std::string& text, const std::string& file) : elements_(text, file) {}

  Result<std::vector<NcclNode>> read(Xml system) {
    RESHARD_TRY(const std::int64_t version, elements_.integer(system, "version", -1, 1'000'000));
    if (version != 1) {
      return elements_.error(system,
                             fmt::format("version {}; this reads version 1, that of NCCL. List the GPUs and NICs "
                                         "of other makers in a cluster file",
                                         version));
    }
    for (const Xml cpu : system.children()) {
      if (cpu.type() != pugi::node_element) continue;
      if (std::strcmp(cpu.name(), "cpu") != 0) return elements_.error(cpu, "expected a cpu element here");
      RESHARD_TRY(read_cpu(cpu));
    }
    return std::move(nodes_);
  }

 private:
  Status read_cpu(Xml cpu) {
    const std::string hash = cpu.attribute("host_hash").value();
    // The cpus of one host share its hash; a file of one host may have none, which is then the same empty text for all.
    node_ = nullptr;
    for (NcclNode& node : nodes_) {
      if (node.host_hash == hash) node_ = &node;
    }
    if (node_ == nullptr) {
      if (nodes_.size() == kMostNodes) return elements_.error(cpu, fmt::format("more than {} hosts", kMostNodes));
      nodes_.push_back({hash, {}, {}, {}});
      node_ = &nodes_.back();
    }
    DevicePlace place{{next_id_++}, {{}}, {}};
    for (const Xml child : cpu.children()) RESHARD_TRY(read_child(child, place, 0, 0));
    return {};
  }

  /// An element below a cpu, or below a bridge or device of this class.
  Status read_child(Xml element, const DevicePlace& above, int depth, std::uint32_t pci_class) {
    if (element.type() != pugi::node_element) return {};
    const std::string name = element.name();
    if (name == "pci") return read_pci(element, above, depth);
    if (name == "nic") return read_nic(element, above, pci_class);
    if (name == "gpu") return elements_.error(element, "a gpu outside a pci element");
    if (name != "pcilink") warn(element, "an element that this does not know; left out");
    return {};
  }

  Status read_pci(Xml pci, const DevicePlace& above, int depth) {
    if (depth == kMostLevels) return elements_.error(pci, fmt::format("nested more than {} levels deep", kMostLevels));
    if (!Elements::find(pci, "busid")) return elements_.error(pci, "has no busid");
    RESHARD_TRY(const std::uint32_t pci_class, elements_.hex(pci, "class"));
    DevicePlace place = above;
    place.path.push_back(next_id_++);
    RESHARD_TRY(Link link, read_pcie(pci));
    place.links.push_back(link);
    // A pci element with anything below it is a bridge or says itself what it is; a bare one is judged by its class.
    bool is_device = false;
    bool is_bridge = false;
    for (const Xml child : pci.children()) {
      if (child.type() != pugi::node_element) continue;
      if (std::strcmp(child.name(), "gpu") == 0) {
        RESHARD_TRY(read_gpu(child, pci, place));
        is_device = true;
      } else {
        is_bridge = true;
        RESHARD_TRY(read_child(child, place, depth + 1, pci_class));
      }
    }
    // A skeleton names the devices by their class only.
    if (is_device || is_bridge) return {};
    if (pci_class >> 16U == kDisplay) return add_gpu_of_class(pci, place);
    if (pci_class >> 16U == kNetwork && !is_wireless(pci_class)) return add_nic_of_class(pci, place);
    return {};
  }

  Result<Link> read_pcie(Xml pci) {
    const pugi::xml_attribute speed = Elements::find(pci, "link_speed");
    const pugi::xml_attribute width = Elements::find(pci, "link_width");
    if (!speed && !width) return Link{};
    RESHARD_TRY(const std::int64_t lanes, elements_.integer(pci, "link_width", 0, 64));
    const std::string text = speed.value();
    const Result<std::int64_t> tenths = parse_decimal(text.substr(0, text.find(" GT/s")), 10, "link_speed");
    // Giga-transfers per second of PCIe 1 to 6, in tenths because of 2.5.
    static constexpr std::array<std::int64_t, 6> kTenths = {25, 50, 80, 160, 320, 640};
    const auto generation = tenths.ok() ? std::find(kTenths.begin(), kTenths.end(), *tenths) : kTenths.end();
    if (generation == kTenths.end() || lanes < 1) {
      warn(pci, fmt::format("link_speed \"{:.40}\" of width \"{:.40}\" is no PCIe link; taken as one without a limit",
                            speed.value(), width.value()));
      return Link{};
    }
    return pcie_link(static_cast<std::int32_t>(generation - kTenths.begin()) + 1, static_cast<std::int32_t>(lanes));
  }

  Result<NcclGpu> new_gpu(Xml pci, const DevicePlace& place) {
    if (node_->gpus.size() == kMaxPerNode) return elements_.error(pci, fmt::format("more than {} GPUs", kMaxPerNode));
    NcclGpu gpu;
    gpu.bus_id = pci.attribute("busid").value();
    gpu.at = place;
    RESHARD_TRY(const std::uint32_t vendor, elements_.hex(pci, "vendor"));
    RESHARD_TRY(gpu.device, elements_.hex(pci, "device"));
    gpu.is_nvidia = vendor == 0 || vendor == kNvidia;
    return gpu;
  }

  Status add_gpu_of_class(Xml pci, const DevicePlace& place) {
    RESHARD_TRY(const std::uint32_t vendor, elements_.hex(pci, "vendor"));
    if (vendor != 0 && vendor != kNvidia) return {};  // the screen of a management controller
    RESHARD_TRY(NcclGpu gpu, new_gpu(pci, place));
    node_->gpus.push_back(std::move(gpu));
    return {};
  }

  Status read_gpu(Xml element, Xml pci, const DevicePlace& place) {
    RESHARD_TRY(NcclGpu gpu, new_gpu(pci, place));
    gpu.has_element = true;
    RESHARD_TRY(const std::int64_t sm, elements_.integer(element, "sm", -1, 10'000));
    RESHARD_TRY(const std::int64_t dev, elements_.integer(element, "dev", -1, 1 << 20));
    if (sm < 0) return elements_.error(element, "has no sm");
    gpu.sm = static_cast<std::int32_t>(sm);
    gpu.dev = static_cast<std::int32_t>(dev);
    for (const Xml child : element.children()) {
      if (child.type() != pugi::node_element) continue;
      const std::string name = child.name();
      if (name == "nvlink") {
        RESHARD_TRY(read_nvlink(child, &gpu));
      } else if (name == "c2c") {
        RESHARD_TRY(read_c2c(child, &gpu));
      } else if (name == "xgmi") {
        return elements_.error(child,
                               "a link between AMD's GPUs, whose speed this does not know; list the GPUs and NICs "
                               "in a cluster file");
      } else {
        warn(child, "an element that this does not know; left out");
      }
    }
    node_->gpus.push_back(std::move(gpu));
    return {};
  }

  Status read_nvlink(Xml element, NcclGpu* gpu) {
    RESHARD_TRY(const std::int64_t count, elements_.integer(element, "count", -1, kMostLinks));
    if (count < 1) return elements_.error(element, "has no count of links");
    RESHARD_TRY(const std::uint32_t link_class, elements_.hex(element, "tclass"));
    // The PCI class of "other bridges", which NVSwitches have; with its last digit NCCL marks a processor.
    constexpr std::uint32_t kSwitch = 0x068000;
    constexpr std::uint32_t kCpu = 0x068001;
    if (link_class == kCpu) return {};
    if (link_class == kSwitch) {
      gpu->switch_links += count;
    } else if (link_class >> 16U == kDisplay) {
      gpu->peer_links[element.attribute("target").value()] += count;
    } else {
      return elements_.error(element,
                             fmt::format("tclass \"{:.40}\" is neither an NVSwitch (0x068000) nor a GPU (0x03....)",
                                         element.attribute("tclass").value()));
    }
    std::int64_t sum = gpu->switch_links;
    for (const auto& [peer, links] : gpu->peer_links) sum += links;
    if (sum > kMostLinks) return elements_.error(element, fmt::format("makes more than {} links of a GPU", kMostLinks));
    return {};
  }

  /// The links of a GPU to its CPU, in MB/s each: data to NICs that are not below the GPU's own PCI bridges takes them,
  /// and not the GPU's PCIe, which may be narrow or idle there.
  Status read_c2c(Xml element, NcclGpu* gpu) {
    constexpr std::int64_t kMaxMbPerS = 10'000'000;
    RESHARD_TRY(const std::int64_t count, elements_.integer(element, "count", 1, kMostLinks));
    RESHARD_TRY(const std::int64_t mb_per_s, elements_.integer(element, "bw", -1, kMaxMbPerS));
    if (count < 1 || mb_per_s < 1) {
      warn(element, "a link to the CPU without speed or count; left out");
      return {};
    }
    gpu->at.to_cpu = explicit_link(mb_per_s * 1'000'000 * count);
    return {};
  }

  Status add_nic(Xml element, const DevicePlace& place, const std::string& name, std::int64_t bytes_per_s) {
    if (node_->nics.size() == kMaxPerNode)
      return elements_.error(element, fmt::format("more than {} NICs", kMaxPerNode));
    NicPlace nic{{name, nic_link(bytes_per_s)}, place};
    RESHARD_TRY(const std::int64_t rail, elements_.integer(element, "rail", -1, kMaxPerNode - 1));
    RESHARD_TRY(const std::int64_t plane, elements_.integer(element, "plane", -1, kMaxPerNode - 1));
    nic.rail = static_cast<std::int32_t>(rail);
    nic.plane = static_cast<std::int32_t>(plane);
    node_->nics.push_back(std::move(nic));
    return {};
  }

  Status add_nic_of_class(Xml pci, const DevicePlace& place) {
    RESHARD_TRY(const std::uint32_t vendor, elements_.hex(pci, "vendor"));
    RESHARD_TRY(const std::uint32_t device, elements_.hex(pci, "device"));
    // Speed 0 stands for not known, until the preset is looked at.
    return add_nic(pci, place, std::string("nic ") + pci.attribute("busid").value(), nic_bytes_per_s(vendor, device));
  }

  /// Why the devices of a nic element are no ports; nullptr where they are. Below a cpu itself stand those without a
  /// PCI device, which are made of others or of none: bonds, bridges, tunnels.
  static const char* why_no_port(const DevicePlace& place, std::uint32_t pci_class) {
    if (place.path.size() < 2) return "has no PCI device of its own, as tunnels and bonds; left out";
    return is_wireless(pci_class) ? "is wireless; left out" : nullptr;
  }

  Status read_nic(Xml nic, const DevicePlace& place, std::uint32_t pci_class) {
    const char* why_not = why_no_port(place, pci_class);
    for (const Xml net : nic.children()) {
      if (net.type() != pugi::node_element) continue;
      if (std::strcmp(net.name(), "net") != 0) {
        warn(net, "an element that this does not know; left out");
        continue;
      }
      if (why_not != nullptr) {
        warn(net, why_not);
        continue;
      }
      constexpr std::int64_t kMaxMbitPerS = 1'000'000'000;
      RESHARD_TRY(std::int64_t mbit_per_s, elements_.integer(net, "speed", -1, kMaxMbitPerS));
      if (mbit_per_s <= 0) {
        mbit_per_s = 10'000;
        warn(net, "has no speed; taken as 10 Gbit/s, as NCCL does");
      }
      const std::string name = net.attribute("name").value();
      if (name.empty()) return elements_.error(net, "has no name");
      RESHARD_TRY(add_nic(net, place, name, mbit_per_s * 125'000));
    }
    return {};
  }

  void warn(Xml element, const std::string& message) {
    if (node_->warnings.size() < kMostWarnings) node_->warnings.push_back(elements_.where(element) + ": " + message);
  }

  Elements elements_;
  std::vector<NcclNode> nodes_;
  NcclNode* node_ = nullptr;  // of the cpu that is being read
  std::int32_t next_id_ = 0;
};

}  // namespace

Result<std::vector<NcclNode>> parse_nccl_tree(const std::string& text, const std::string& file) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed =
      document.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8);
  const Elements elements(text, file);
  if (!parsed) return invalid_argument(fmt::format("{}: {}", elements.place(parsed.offset), parsed.description()));
  const Xml system = document.document_element();
  if (std::strcmp(system.name(), "system") != 0) return elements.error(system, "expected the element system");
  return TreeReader(text, file).read(system);
}

}  // namespace reshard
