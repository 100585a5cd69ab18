// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The node types of a cluster file: presets with other numbers, NCCL topologies, or GPUs and NICs one by one.
#include "topology/read/cluster_nodes.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "src/base/at.h"
#include "topology/gpu_model.h"
#include "topology/read/file.h"
#include "topology/read/number.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

constexpr std::int64_t kMaxLatencyNs = 1'000'000'000;

Status read_gpus(const ConfigValue& value, NodeType* node) {
  RESHARD_TRY(const ConfigMap map,
              ConfigMap::make(value, "gpus",
                              {"count", "link", "link_efficiency", "link_latency_ns", "link_group", "pcie",
                               "pcie_efficiency", "memory", "memory_efficiency", "multicast"}));
  std::int32_t count = 1;
  NodeType::Gpu gpu;
  gpu.link_group = 0;
  gpu.link = explicit_link(0);
  gpu.memory = memory_link(kUnlimited);
  gpu.pcie = pcie_link(5, 16);
  // The efficiency and latency of a usual PCIe link for the case that a speed follows; 0 stands for no limit.
  gpu.pcie.nominal_bytes_per_s = 0;
  RESHARD_TRY(map.required("link"));
  RESHARD_TRY(map.integer("count", 1, kMaxPerNode, &count));
  RESHARD_TRY(map.bytes_per_s("link", false, &gpu.link.nominal_bytes_per_s));
  RESHARD_TRY(map.permille("link_efficiency", 1, 1000, &gpu.link.efficiency_permille));
  RESHARD_TRY(map.integer("link_latency_ns", 0, kMaxLatencyNs, &gpu.link.latency_ns));
  RESHARD_TRY(map.integer("link_group", -1, kMaxPerNode - 1, &gpu.link_group));
  RESHARD_TRY(map.bytes_per_s("pcie", false, &gpu.pcie.nominal_bytes_per_s));
  RESHARD_TRY(map.permille("pcie_efficiency", 1, 1000, &gpu.pcie.efficiency_permille));
  RESHARD_TRY(map.bytes_per_s("memory", false, &gpu.memory.nominal_bytes_per_s));
  RESHARD_TRY(map.permille("memory_efficiency", 1, 1000, &gpu.memory.efficiency_permille));
  RESHARD_TRY(map.permille("multicast", 0, 1000, &gpu.multicast_permille));
  if (node->gpus.size() + static_cast<std::size_t>(count) > kMaxPerNode) {
    return value.error(fmt::format("more than {} GPUs", kMaxPerNode));
  }
  node->gpus.insert(node->gpus.end(), static_cast<std::size_t>(count), gpu);
  return {};
}

/// The GPUs a NIC serves; without a list the one of its own index.
Result<std::vector<std::int32_t>> read_served(const ConfigMap& map, std::int32_t nic, std::int32_t num_gpus) {
  RESHARD_TRY(const std::vector<ConfigValue>* list, map.list("gpus"));
  std::vector<std::int32_t> served;
  if (list == nullptr) {
    if (nic >= num_gpus) return map.error("there are more NICs than GPUs; say which it serves: gpus: [...]");
    served.push_back(nic);
    return served;
  }
  for (const ConfigValue& item : *list) {
    std::string text;
    RESHARD_TRY(read_scalar(item, "gpus", &text));
    RESHARD_TRY(const std::int64_t gpu, parse_integer(text, 0, num_gpus - 1, item.where + ": gpus"));
    served.push_back(static_cast<std::int32_t>(gpu));
  }
  if (served.empty()) return map.error("a NIC that serves no GPU");
  return served;
}

class NicReader {
 public:
  explicit NicReader(NodeType* node) : node_(node) {}

  Status read(const ConfigValue& value) {
    RESHARD_TRY(const ConfigMap map,
                ConfigMap::make(value, "nics", {"name", "speed", "efficiency", "latency_ns", "rail", "gpus"}));
    if (num_nics_ == kMaxPerNode) return value.error(fmt::format("more than {} NICs", kMaxPerNode));
    NodeType::Nic nic{fmt::format("nic{}", num_nics_), nic_link(0)};
    RESHARD_TRY(map.required("speed"));
    RESHARD_TRY(map.text("name", &nic.name));
    RESHARD_TRY(map.bytes_per_s("speed", true, &nic.link.nominal_bytes_per_s));
    RESHARD_TRY(map.permille("efficiency", 1, 1000, &nic.link.efficiency_permille));
    RESHARD_TRY(map.integer("latency_ns", 0, kMaxLatencyNs, &nic.link.latency_ns));
    RESHARD_TRY(const std::vector<std::int32_t> served,
                read_served(map, num_nics_, static_cast<std::int32_t>(node_->gpus.size())));
    ++num_nics_;
    return add(map, std::move(nic), served);
  }

 private:
  /// NICs that serve the same GPUs are one port; a GPU has one port.
  Status add(const ConfigMap& map, NodeType::Nic nic, const std::vector<std::int32_t>& served) {
    const auto next = static_cast<std::int32_t>(node_->ports.size());
    // The list of GPUs is the port's name: the same list again is one more NIC of that port.
    const auto [it, is_new] = ports_.try_emplace(served, next);
    std::int32_t rail = is_new ? next : at(node_->ports, it->second).rail;
    RESHARD_TRY(map.integer("rail", 0, kMaxPerNode - 1, &rail));
    if (is_new) {
      node_->ports.push_back({rail, {}});
      for (const std::int32_t gpu : served) {
        std::int32_t& port = at(node_->gpus, gpu).port;
        // Lists that overlap without being equal would give a GPU two ports, between which a plan could not choose.
        if (port >= 0) return map.error(fmt::format("GPU {} is served by another list of NICs already", gpu));
        port = next;
      }
    }
    NodeType::Port& port = at(node_->ports, it->second);
    if (port.rail != rail) return map.error("NICs of the same GPUs are on different rails");
    port.nics.push_back(std::move(nic));
    return {};
  }

  NodeType* node_;
  std::int32_t num_nics_ = 0;
  // By the GPUs that a port serves.
  std::map<std::vector<std::int32_t>, std::int32_t> ports_;
};

Result<Preset> read_parts(const ConfigMap& map) {
  Preset read;
  RESHARD_TRY(const std::vector<ConfigValue>* gpus, map.list("gpus"));
  RESHARD_TRY(const std::vector<ConfigValue>* nics, map.list("nics"));
  if (gpus == nullptr || gpus->empty()) return map.error("give preset, nccl_xml, or a list of gpus");
  for (const ConfigValue& gpu : *gpus) RESHARD_TRY(read_gpus(gpu, &read.node));
  NicReader reader(&read.node);
  if (nics != nullptr) {
    for (const ConfigValue& nic : *nics) RESHARD_TRY(reader.read(nic));
  }
  return read;
}

Result<Preset> read_xml(const ConfigValue& value, const std::string& file, const NodeType* like,
                        std::vector<std::string>* warnings) {
  std::string name;
  RESHARD_TRY(read_scalar(value, "nccl_xml", &name));
  const std::string path = beside(file, name);
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return Status(text.status().code(), value.where + ": " + text.status().message());
  RESHARD_TRY(ClusterSpec spec, read_nccl_xml(*text, path, like));
  if (spec.types.size() > 1) return value.error("the hosts in that file differ; give it as the cluster itself");
  warnings->insert(warnings->end(), spec.warnings.begin(), spec.warnings.end());
  return Preset{std::move(spec.types.front()), spec.groups.front().domain_nodes};
}

Result<Preset> read_preset(const ConfigMap& map) {
  const ConfigValue& value = *map.find("preset");
  std::string name;
  RESHARD_TRY(read_scalar(value, "preset", &name));
  Result<Preset> preset = find_preset(name);
  if (!preset.ok()) return value.error(preset.status().message());
  std::int32_t num_processes = 1;
  RESHARD_TRY(map.integer("ranks", 1, kMaxPerNode, &num_processes));
  if (name == "host") {
    preset->node = with_processes(std::move(preset->node), num_processes);
  } else if (map.find("ranks") != nullptr) {
    return map.find("ranks")->error("ranks goes with the preset host only");
  }
  return preset;
}

/// `is_host`: GPUs are processes, whose links and memory are one: what a core copies.
Status set_speeds(const ConfigMap& map, bool is_host, NodeType* node) {
  std::int64_t nic = 0;
  std::int64_t pcie = 0;
  std::int64_t link = 0;
  std::int64_t memory = 0;
  RESHARD_TRY(map.bytes_per_s("nic", true, &nic));
  RESHARD_TRY(map.bytes_per_s("pcie", false, &pcie));
  RESHARD_TRY(map.bytes_per_s("link", false, &link));
  RESHARD_TRY(map.bytes_per_s("memory", false, &memory));
  for (NodeType::Port& port : node->ports) {
    for (NodeType::Nic& each : port.nics) each.link.nominal_bytes_per_s = nic > 0 ? nic : each.link.nominal_bytes_per_s;
  }
  for (NodeType::Gpu& gpu : node->gpus) {
    if (pcie > 0) gpu.pcie.nominal_bytes_per_s = pcie;
    if (link > 0) gpu.link.nominal_bytes_per_s = link;
    if (link > 0 && is_host) gpu.memory = memory_of_process(gpu.link);
    if (memory > 0) gpu.memory.nominal_bytes_per_s = memory;
    RESHARD_TRY(map.permille("multicast", 0, 1000, &gpu.multicast_permille));
  }
  return {};
}

}  // namespace

std::string beside(const std::string& file, const std::string& named) {
  return (std::filesystem::path(file).parent_path() / named).string();
}

Result<Preset> read_node_type(const ConfigValue& value, const std::string& name, const std::string& file,
                              std::vector<std::string>* warnings) {
  RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, "a node type",
                                                   {"preset", "nccl_xml", "ranks", "nic", "pcie", "link", "memory",
                                                    "multicast", "gpus", "nics"}));
  const bool has_parts = map.find("gpus") != nullptr || map.find("nics") != nullptr;
  const bool has_base = map.find("preset") != nullptr || map.find("nccl_xml") != nullptr;
  if (has_parts && has_base) return map.error("gpus and nics go without preset and nccl_xml");
  if (map.find("ranks") != nullptr && map.find("preset") == nullptr)
    return map.error("ranks goes with the preset host only");
  Preset read;
  if (map.find("preset") != nullptr) {
    RESHARD_TRY(read, read_preset(map));
  } else if (!has_base) {
    RESHARD_TRY(read, read_parts(map));
  }
  if (const ConfigValue* xml = map.find("nccl_xml")) {
    const Preset like = read;
    RESHARD_TRY(read, read_xml(*xml, file, map.find("preset") == nullptr ? nullptr : &like.node, warnings));
  }
  RESHARD_TRY(set_speeds(map, read.node.name == "host", &read.node));
  read.node.name = name;
  if (Status checked = check(read.node); !checked.ok()) return value.error(checked.message());
  return read;
}

}  // namespace reshard
