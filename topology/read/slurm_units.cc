// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From switches and blocks, as both of Slurm's forms have them, to the place of each node. A tree may have any depth;
// of it a machine has two tiers: the switch that a node hangs on is its leaf, the one above is its pod.
#include "topology/read/slurm_units.h"

#include <fmt/format.h>

#include <map>
#include <unordered_map>

#include "src/base/at.h"

namespace reshard {
namespace {

// By name; the names are those of the units, which outlive it.
using UnitOfNode = std::unordered_map<std::string_view, std::int32_t>;

Status error(const SlurmUnit& unit, const std::string& message) {
  return invalid_argument(unit.where + ": " + message);
}

Status named_twice(const SlurmUnit& unit) {
  return error(unit, fmt::format("{:.60} is named twice", unit.name));
}

/// The unit that each node hangs on. Error: a node on two of them.
Result<UnitOfNode> units_of_nodes(const std::vector<SlurmUnit>& units) {
  UnitOfNode unit_of;
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (const std::string& node : units[u].nodes) {
      if (unit_of.emplace(node, static_cast<std::int32_t>(u)).second) continue;
      return error(units[u], fmt::format("node {:.60} is listed twice", node));
    }
  }
  return unit_of;
}

/// By switch, the one above it; -1: none. Errors: a child that is not there, or is below two switches.
Result<std::vector<std::int32_t>> parents_of(const std::vector<SlurmUnit>& switches) {
  std::unordered_map<std::string_view, std::int32_t> index;
  for (std::size_t s = 0; s < switches.size(); ++s) index.emplace(switches[s].name, static_cast<std::int32_t>(s));
  std::vector<std::int32_t> parents(switches.size(), -1);
  for (std::size_t s = 0; s < switches.size(); ++s) {
    for (const std::string& name : switches[s].children) {
      const auto child = index.find(name);
      if (child == index.end()) return error(switches[s], fmt::format("there is no switch {:.60}", name));
      std::int32_t& parent = at(parents, child->second);
      if (parent >= 0) return error(switches[s], fmt::format("{:.60} is below two switches", name));
      parent = static_cast<std::int32_t>(s);
    }
  }
  return parents;
}

/// Blocks are the leaves where the file has no switches.
void place_by_blocks(const std::vector<SlurmUnit>& blocks, Places* places) {
  std::int32_t number = 0;
  for (const SlurmUnit& block : blocks) {
    if (block.nodes.empty()) continue;
    for (const std::string& node : block.nodes) places->nodes.push_back({node, {number, 0, number}});
    ++number;
  }
}

void place_by_switches(const std::vector<SlurmUnit>& switches, const std::vector<std::int32_t>& parents,
                       const UnitOfNode& block_of, Places* places) {
  std::map<std::int32_t, std::int32_t> pods;  // by the switch above the leaf; leaves without one share a pod
  std::int32_t number = 0;
  for (std::size_t s = 0; s < switches.size(); ++s) {
    if (switches[s].nodes.empty()) continue;
    const std::int32_t pod = pods.try_emplace(parents[s], static_cast<std::int32_t>(pods.size())).first->second;
    for (const std::string& node : switches[s].nodes) {
      const auto block = block_of.find(node);
      places->nodes.push_back({node, {number, pod, block == block_of.end() ? -1 : block->second}});
    }
    ++number;
  }
}

}  // namespace

// One limit for the whole file and not for a line of it: thousands of lines could name millions each.
Result<std::vector<std::string>> SlurmUnits::names(std::string_view list, const std::string& where) {
  Result<std::vector<std::string>> names = expand_node_list(list, kMaxNamedNodes - num_names_);
  if (!names.ok()) return names.take_status().with_context(where);
  num_names_ += static_cast<std::int64_t>(names->size());
  return names;
}

Status SlurmUnits::add_switch(SlurmUnit unit) {
  if (!switch_names_.insert(unit.name).second) return named_twice(unit);
  switches_.push_back(std::move(unit));
  return {};
}

Status SlurmUnits::add_block(SlurmUnit unit) {
  if (!block_names_.insert(unit.name).second) return named_twice(unit);
  blocks_.push_back(std::move(unit));
  return {};
}

Result<Places> SlurmUnits::places() const {
  RESHARD_TRY(const std::vector<std::int32_t> parents, parents_of(switches_));
  RESHARD_TRY(const UnitOfNode switch_of, units_of_nodes(switches_));
  RESHARD_TRY(const UnitOfNode block_of, units_of_nodes(blocks_));
  if (switch_of.empty() && block_of.empty()) return invalid_argument(file_ + ": no nodes");
  Places places;
  places.domains_are_blocks = !block_of.empty();
  places.has_switches = !switch_of.empty();
  if (switch_of.empty()) {
    place_by_blocks(blocks_, &places);
    return places;
  }
  place_by_switches(switches_, parents, block_of, &places);
  // Nodes that a block names and no switch: without a leaf a node has no place in the fabric.
  std::int64_t num_lost = 0;
  for (const auto& [node, block] : block_of) num_lost += static_cast<std::int64_t>(1 - switch_of.count(node));
  if (num_lost > 0) {
    places.warnings.push_back(
        fmt::format("{}: {} nodes of its blocks hang on none of its switches; left out", file_, num_lost));
  }
  return places;
}

}  // namespace reshard
