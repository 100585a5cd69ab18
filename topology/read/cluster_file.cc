// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A cluster file: kinds of nodes, how many of each, and the fabric between them. The sections are read in the order in
// which they need each other, and not in that of the file: types, then clusters of them, then the fabric, whose
// topology looks up the nodes of all clusters.
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "topology/read/cluster_nodes.h"
#include "topology/read/config.h"
#include "topology/read/file.h"
#include "topology/read/node_list.h"
#include "topology/read/number.h"
#include "topology/read/places.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

class ClusterReader {
 public:
  explicit ClusterReader(const std::string& file) : file_(file) {}

  Result<ClusterSpec> read(const ConfigValue& document) {
    if (document.kind == ConfigValue::Kind::kList) {  // as Slurm's topology.yaml is, which has no GPUs and no rates
      return document.error(
          "a cluster file is a map with clusters, not a list; what Slurm wrote is named beside the type of its nodes, "
          "as in hgx-h100:topology=FILE");
    }
    RESHARD_TRY(const ConfigMap map, ConfigMap::make(document, "a cluster file", {"node_types", "clusters", "fabric"}));
    if (const ConfigValue* types = map.find("node_types")) RESHARD_TRY(read_types(*types));
    RESHARD_TRY(map.required("clusters"));
    RESHARD_TRY(const std::vector<ConfigValue>* clusters, map.list("clusters"));
    if (clusters->empty()) return map.find("clusters")->error("no cluster in the list");
    for (const ConfigValue& cluster : *clusters) RESHARD_TRY(read_group(cluster));
    if (const ConfigValue* fabric = map.find("fabric")) RESHARD_TRY(read_fabric(*fabric));
    spec_.name = std::filesystem::path(file_).filename().string();
    return std::move(spec_);
  }

 private:
  Status read_types(const ConfigValue& types) {
    if (types.kind != ConfigValue::Kind::kMap) return types.error("node_types is no map");
    for (std::size_t i = 0; i < types.items.size(); i += 2) {
      const ConfigValue& key = types.items[i];
      RESHARD_TRY(Preset type, read_node_type(types.items[i + 1], key.text, file_, &spec_.warnings));
      if (!types_.emplace(key.text, std::move(type)).second)
        return key.error(fmt::format("{:.60} is given twice", key.text));
    }
    return {};
  }

  /// The index of a type, which may also be the bare name of a preset.
  Result<std::int32_t> use_type(const ConfigValue& value, std::int32_t* domain_nodes) {
    std::string name;
    RESHARD_TRY(read_scalar(value, "type", &name));
    if (types_.count(name) == 0) {
      Result<Preset> preset = find_preset(name);
      if (!preset.ok()) return value.error("neither in node_types nor a preset: " + preset.status().message());
      // Kept, so that a preset that several clusters name is looked up once.
      types_.emplace(name, preset.take());
    }
    *domain_nodes = types_.at(name).domain_nodes;
    return intern(types_.at(name).node, &spec_.types);
  }

  Status read_group(const ConfigValue& value) {
    // An open number means "as many as the ranks need", so that nothing can come after it.
    if (!spec_.groups.empty() && spec_.groups.back().num_nodes == 0) {
      return value.error("the cluster before this one leaves its number of nodes open; only the last may");
    }
    RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, "a cluster", {"type", "nodes", "nvlink_domain"}));
    RESHARD_TRY(map.required("type"));
    ClusterSpec::Group group;
    RESHARD_TRY(group.type, use_type(*map.find("type"), &group.domain_nodes));
    RESHARD_TRY(map.integer("nvlink_domain", 1, kMaxNodes, &group.domain_nodes));
    if (const ConfigValue* nodes = map.find("nodes")) {
      std::string text;
      RESHARD_TRY(read_scalar(*nodes, "nodes", &text));
      // Digits alone are a count, and everything else a list of names.
      if (text.find_first_not_of("0123456789") == std::string::npos) {
        RESHARD_TRY(map.integer("nodes", 1, kMaxNodes, &group.num_nodes));
      } else {
        Result<std::vector<std::string>> names = expand_node_list(text);
        if (!names.ok()) return nodes->error("nodes: " + names.status().message());
        group.names = names.take();
        group.num_nodes = static_cast<std::int32_t>(group.names.size());
      }
    }
    spec_.groups.push_back(std::move(group));
    return {};
  }

  Status read_fabric(const ConfigValue& value) {
    RESHARD_TRY(const ConfigMap map,
                ConfigMap::make(value, "fabric",
                                {"rails", "rail_isolated", "leaf_nodes", "leaves_per_pod", "oversubscription",
                                 "uplink_efficiency", "degraded", "topology"}));
    Fabric& fabric = spec_.fabric;
    RESHARD_TRY(map.integer("rails", 1, kMaxPerNode, &fabric.num_rails));
    RESHARD_TRY(map.boolean("rail_isolated", &fabric.rail_isolated));
    RESHARD_TRY(map.integer("leaf_nodes", 1, kMaxNodes, &fabric.leaf_nodes));
    RESHARD_TRY(map.integer("leaves_per_pod", 1, kMaxNodes, &fabric.leaves_per_pod));
    RESHARD_TRY(map.permille("uplink_efficiency", 1, 1000, &fabric.uplink_efficiency_permille));
    RESHARD_TRY(read_oversubscription(map));
    RESHARD_TRY(const std::vector<ConfigValue>* degraded, map.list("degraded"));
    if (degraded != nullptr) {
      for (const ConfigValue& entry : *degraded) RESHARD_TRY(read_degraded(entry));
    }
    if (const ConfigValue* topology = map.find("topology")) {
      std::string name;
      RESHARD_TRY(read_scalar(*topology, "topology", &name));
      const std::string path = beside(file_, name);
      RESHARD_TRY(const Places places, read_places(path));
      Status applied = apply_places(places, path, &spec_);
      if (!applied.ok()) return topology->error(applied.message());
    }
    return {};
  }

  /// [leaf to spine, pod to core], or the first of them alone.
  Status read_oversubscription(const ConfigMap& map) {
    constexpr std::int64_t kMaxPermille = 1'000'000'000;
    const ConfigValue* value = map.find("oversubscription");
    if (value == nullptr) return {};
    Fabric& fabric = spec_.fabric;
    if (value->kind != ConfigValue::Kind::kList) {
      return read_permille(*value, "oversubscription", 1, kMaxPermille, &fabric.leaf_oversubscription_permille);
    }
    if (value->items.empty() || value->items.size() > 2) {
      return value->error(
          fmt::format("oversubscription has {} values; give those of leaf and pod", value->items.size()));
    }
    RESHARD_TRY(read_permille(value->items.front(), "oversubscription", 1, kMaxPermille,
                              &fabric.leaf_oversubscription_permille));
    if (value->items.size() == 1) return {};
    return read_permille(value->items.back(), "oversubscription", 1, kMaxPermille,
                         &fabric.pod_oversubscription_permille);
  }

  Status read_degraded(const ConfigValue& value) {
    RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, "degraded", {"node", "nic", "fraction"}));
    DegradedNic degraded;
    for (const char* key : {"node", "nic", "fraction"}) RESHARD_TRY(map.required(key));
    RESHARD_TRY(map.text("node", &degraded.node));
    RESHARD_TRY(map.text("nic", &degraded.nic));
    RESHARD_TRY(map.permille("fraction", 0, 1000, &degraded.fraction_permille));
    spec_.fabric.degraded.push_back(std::move(degraded));
    return {};
  }

  const std::string& file_;
  ClusterSpec spec_;
  std::map<std::string, Preset> types_;
};

}  // namespace

Result<ClusterSpec> read_cluster_yaml(const std::string& text, const std::string& file) {
  RESHARD_TRY(const ConfigValue document, parse_yaml(text, file));
  return ClusterReader(file).read(document);
}

Result<ClusterSpec> read_cluster(const std::string& path) {
  RESHARD_TRY(const std::string text, read_file(path));
  if (path.ends_with(".conf")) {
    return invalid_argument(
        fmt::format("{}: says where nodes are and not what they are; write PRESET:topology={}, or fabric.topology in a "
                    "cluster file",
                    path, path));
  }
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_xml = path.ends_with(".xml") || (first != std::string::npos && text[first] == '<');
  return is_xml ? read_nccl_xml(text, path, nullptr) : read_cluster_yaml(text, path);
}

}  // namespace reshard
