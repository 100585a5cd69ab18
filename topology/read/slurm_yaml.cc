// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Slurm's topology.yaml, the newer of its two forms: several topologies of the same nodes in
// one file. A machine has one place for each node, so at most one tree and one list of blocks are taken, and what is
// left out is said.
#include <fmt/format.h>

#include "topology/read/config.h"
#include "topology/read/slurm_units.h"

namespace reshard {
namespace {

/// One topology of the list, of which one of `tree`, `block` and `is_flat` is given.
struct Topology {
  std::string name;
  std::string where;
  bool is_default = false;
  bool is_flat = false;  ///< says nothing of where nodes are
  const ConfigValue* tree = nullptr;
  const ConfigValue* block = nullptr;
};

Result<Topology> read_topology(const ConfigValue& value) {
  RESHARD_TRY(const ConfigMap map,
              ConfigMap::make(value, "a topology", {"topology", "cluster_default", "tree", "block", "flat"}));
  Topology read;
  read.where = value.where;
  RESHARD_TRY(map.required("topology"));
  RESHARD_TRY(map.text("topology", &read.name));
  RESHARD_TRY(map.boolean("cluster_default", &read.is_default));
  RESHARD_TRY(map.boolean("flat", &read.is_flat));
  read.tree = map.find("tree");
  read.block = map.find("block");
  const int num_kinds = (read.tree != nullptr ? 1 : 0) + (read.block != nullptr ? 1 : 0) + (read.is_flat ? 1 : 0);
  if (num_kinds != 1) return map.error("give a tree, a block, or flat: true, one of them");
  return read;
}

/// A switch or a block: its name, and what hangs on it, under the keys of its kind.
Result<SlurmUnit> read_unit(const ConfigValue& value, std::string_view kind, SlurmUnits* units) {
  RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, fmt::format("a {}", kind), {kind, "nodes", "children"}));
  RESHARD_TRY(map.required(kind));
  SlurmUnit unit{"", value.where};
  std::string nodes;
  std::string children;
  RESHARD_TRY(map.text(kind, &unit.name));
  RESHARD_TRY(map.text("nodes", &nodes));
  RESHARD_TRY(map.text("children", &children));
  if (!nodes.empty() && !children.empty()) return map.error("give nodes or children, one of them");
  if (!nodes.empty()) {
    RESHARD_TRY(unit.nodes, units->names(nodes, map.find("nodes")->where));
  }
  if (!children.empty()) {
    RESHARD_TRY(unit.children, units->names(children, map.find("children")->where));
  }
  return unit;
}

Status read_tree(const ConfigValue& value, SlurmUnits* units) {
  RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, "a tree", {"switches"}));
  RESHARD_TRY(map.required("switches"));
  RESHARD_TRY(const std::vector<ConfigValue>* switches, map.list("switches"));
  for (const ConfigValue& item : *switches) {
    RESHARD_TRY(SlurmUnit unit, read_unit(item, "switch", units));
    RESHARD_TRY(units->add_switch(std::move(unit)));
  }
  return {};
}

Status read_blocks(const ConfigValue& value, SlurmUnits* units) {
  RESHARD_TRY(const ConfigMap map, ConfigMap::make(value, "a block topology", {"block_sizes", "blocks"}));
  RESHARD_TRY(map.required("blocks"));
  RESHARD_TRY(const std::vector<ConfigValue>* blocks, map.list("blocks"));
  for (const ConfigValue& item : *blocks) {
    RESHARD_TRY(SlurmUnit unit, read_unit(item, "block", units));
    if (!unit.children.empty()) return item.error("a block has nodes, and no children");
    RESHARD_TRY(units->add_block(std::move(unit)));
  }
  return {};
}

/// The topology that places the cluster: the first default one, else the first, unless that is flat.
Result<const Topology*> choose(const std::vector<Topology>& all, const std::string& file,
                               std::vector<std::string>* warnings) {
  const Topology* first = nullptr;
  for (const Topology& topology : all) {
    if (topology.is_flat) continue;
    if (topology.is_default) return &topology;
    if (first == nullptr) first = &topology;
  }
  if (first == nullptr) {
    return invalid_argument(file + ": only flat topologies, which do not say where nodes are; leave the file out");
  }
  if (all.size() > 1) {
    warnings->push_back(fmt::format("{}: no tree or block of cluster_default: true; topology {:.60} is taken",
                                    first->where, first->name));
  }
  return first;
}

}  // namespace

Result<Places> read_slurm_yaml(const std::string& text, const std::string& file) {
  RESHARD_TRY(const ConfigValue document, parse_yaml(text, file));
  if (document.kind != ConfigValue::Kind::kList || document.items.empty()) {
    return document.error("no list of topologies, as Slurm's topology.yaml is");
  }
  std::vector<Topology> all;
  for (const ConfigValue& item : document.items) {
    RESHARD_TRY(Topology topology, read_topology(item));
    all.push_back(std::move(topology));
  }
  std::vector<std::string> warnings;
  RESHARD_TRY(const Topology* chosen, choose(all, file, &warnings));
  const ConfigValue* tree = chosen->tree;
  const ConfigValue* block = chosen->block;
  for (const Topology& topology : all) {
    if (&topology == chosen || topology.is_flat) continue;
    const ConfigValue*& other = topology.tree != nullptr ? tree : block;
    if (other == nullptr) {
      other = topology.tree != nullptr ? topology.tree : topology.block;
    } else {
      warnings.push_back(fmt::format("{}: topology {:.60} is left out, for another tells the same of the nodes",
                                     topology.where, topology.name));
    }
  }
  SlurmUnits units(file);
  if (tree != nullptr) RESHARD_TRY(read_tree(*tree, &units));
  if (block != nullptr) RESHARD_TRY(read_blocks(*block, &units));
  RESHARD_TRY(Places places, units.places());
  places.warnings.insert(places.warnings.begin(), warnings.begin(), warnings.end());
  return places;
}

}  // namespace reshard
