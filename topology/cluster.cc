// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "src/base/at.h"
#include "topology/machine_builder.h"

namespace reshard {
namespace {

constexpr std::int64_t kMaxRanks = 1 << 22;

/// The index of a NIC among those of its node.
Result<std::int32_t> find_nic(const NodeType& type, const DegradedNic& degraded) {
  std::int32_t index = 0;
  std::int32_t wanted = -1;
  const char* end = degraded.nic.data() + degraded.nic.size();
  const auto parsed = std::from_chars(degraded.nic.data(), end, wanted);
  const bool is_index = parsed.ec == std::errc() && parsed.ptr == end;
  for (const NodeType::Port& port : type.ports) {
    for (const NodeType::Nic& nic : port.nics) {
      if (is_index ? index == wanted : nic.name == degraded.nic) return index;
      ++index;
    }
  }
  return invalid_argument(fmt::format("degraded link: node {} of type {} has {} NICs and none is {}", degraded.node,
                                      type.name, index, degraded.nic));
}

/// What of the NICs' speed is left, by the name of the node.
using Permilles = std::unordered_map<std::string, std::vector<std::pair<std::int32_t, std::int32_t>>>;

/// The nodes of a cluster one after the other.
class NodeCursor {
 public:
  explicit NodeCursor(const ClusterSpec& spec) : spec_(spec) {}

  bool at_end() const { return group_ >= spec_.groups.size(); }
  const ClusterSpec::Group& group() const { return spec_.groups[group_]; }
  const NodeType& type() const { return at(spec_.types, group().type); }

  void next() {
    ++index_;
    ++total_;
    if (group().num_nodes > 0 && index_ >= group().num_nodes) {
      index_ = 0;
      first_of_group_ = total_;
      ++group_;
    }
  }

  std::string name() const {
    const std::vector<std::string>& names = group().names;
    return names.empty() ? fmt::format("n{:04}", total_ + 1) : at(names, index_);
  }

  PlacedNode placed() const {
    PlacedNode node;
    node.type = &type();
    node.name = name();
    // Domains are numbered so that no two groups and no imported number collide.
    node.domain = first_of_group_ + index_ / std::max(1, group().domain_nodes);
    if (spec_.places.empty()) {
      node.block = spec_.fabric.leaf_nodes == 0 ? 0 : total_ / spec_.fabric.leaf_nodes;
      node.pod = spec_.fabric.leaves_per_pod == 0 ? 0 : node.block / spec_.fabric.leaves_per_pod;
    } else {
      const ClusterSpec::Place& place = at(spec_.places, total_);
      node.block = place.block;
      node.pod = place.pod;
      if (place.domain >= 0) node.domain = -1 - static_cast<std::int64_t>(place.domain);
    }
    return node;
  }

 private:
  const ClusterSpec& spec_;
  std::size_t group_ = 0;
  std::int32_t index_ = 0;  // within the group
  std::int32_t first_of_group_ = 0;
  std::int32_t total_ = 0;
};

Status check_spec(const ClusterSpec& spec) {
  RESHARD_TRY(check(spec.fabric));
  for (const NodeType& type : spec.types) RESHARD_TRY(check(type).with_context("node type " + type.name));
  std::int64_t num_nodes = 0;
  for (std::size_t g = 0; g < spec.groups.size(); ++g) {
    const ClusterSpec::Group& group = spec.groups[g];
    if (group.type < 0 || group.type >= static_cast<std::int32_t>(spec.types.size())) {
      return invalid_argument(fmt::format("node group {} has type {} of {}", g, group.type, spec.types.size()));
    }
    if (at(spec.types, group.type).gpus.empty()) {
      return invalid_argument(
          fmt::format("node type {} has no GPUs; say how many processes a host has", at(spec.types, group.type).name));
    }
    if (group.num_nodes < 0 || (group.num_nodes == 0 && g + 1 < spec.groups.size())) {
      return invalid_argument(
          fmt::format("node group {} has {} nodes; only the last may leave it open", g, group.num_nodes));
    }
    if (group.domain_nodes < 1) {
      return invalid_argument(fmt::format("an NVLink domain of {} nodes; give 1 or more", group.domain_nodes));
    }
    if (!group.names.empty() && static_cast<std::int64_t>(group.names.size()) != group.num_nodes) {
      return invalid_argument(fmt::format("{} names for {} nodes", group.names.size(), group.num_nodes));
    }
    num_nodes += group.num_nodes;
  }
  if (num_nodes > kMaxRanks) return invalid_argument(fmt::format("{} nodes; at most {}", num_nodes, kMaxRanks));
  const bool is_open = !spec.groups.empty() && spec.groups.back().num_nodes == 0;
  if (!spec.places.empty() && (is_open || static_cast<std::int64_t>(spec.places.size()) != num_nodes)) {
    return invalid_argument(fmt::format("places for {} nodes of {}", spec.places.size(), num_nodes));
  }
  return {};
}

Status check_segments(const std::vector<std::int32_t>& segments) {
  std::int64_t num_ranks = 0;
  for (const std::int32_t segment : segments) {
    if (segment < 0) return invalid_argument(fmt::format("a segment of {} ranks", segment));
    num_ranks += segment;
  }
  if (num_ranks < 1 || num_ranks > kMaxRanks) {
    return invalid_argument(fmt::format("a machine for {} ranks; give 1 to {}", num_ranks, kMaxRanks));
  }
  return {};
}

/// Gives ranks their nodes and GPUs; counts on where nodes run out, so that the error can say how many it takes.
Status place(const ClusterSpec& spec, const std::vector<std::int32_t>& segments, std::vector<PlacedNode>* nodes,
             std::vector<PlacedRank>* ranks) {
  NodeCursor cursor(spec);
  std::int64_t num_nodes = 0;
  std::int64_t gpus_per_node =
      spec.groups.empty() ? 1 : static_cast<std::int64_t>(at(spec.types, spec.groups.back().type).gpus.size());
  for (std::int32_t left : segments) {
    for (; left > 0 && !cursor.at_end(); cursor.next(), ++num_nodes) {
      const auto num_gpus = static_cast<std::int32_t>(cursor.type().gpus.size());
      for (std::int32_t gpu = 0; gpu < std::min(num_gpus, left); ++gpu) {
        ranks->push_back({static_cast<std::int32_t>(nodes->size()), gpu});
      }
      left -= std::min(num_gpus, left);
      nodes->push_back(cursor.placed());
    }
    num_nodes += (left + gpus_per_node - 1) / gpus_per_node;
  }
  if (static_cast<std::int64_t>(nodes->size()) == num_nodes) return {};
  return invalid_argument(
      fmt::format("{}: the ranks need {} nodes and there are {}", spec.name, num_nodes, nodes->size()));
}

/// Finds what is degraded, also on nodes without ranks, and hands it to those that have some.
Status degrade(const ClusterSpec& spec, std::vector<PlacedNode>* nodes) {
  if (spec.fabric.degraded.empty()) return {};
  std::unordered_map<std::string, PlacedNode*> used;
  for (PlacedNode& node : *nodes) used.emplace(node.name, &node);
  std::unordered_map<std::string, const NodeType*> known;
  NodeCursor cursor(spec);
  for (std::size_t i = 0; !cursor.at_end() && (cursor.group().num_nodes > 0 || i < nodes->size()); ++i, cursor.next()) {
    known.emplace(cursor.name(), &cursor.type());
  }
  for (const DegradedNic& degraded : spec.fabric.degraded) {
    const auto node = known.find(degraded.node);
    if (node == known.end()) {
      return invalid_argument(fmt::format("degraded link: there is no node {} among {}", degraded.node, known.size()));
    }
    if (degraded.fraction_permille < 0 || degraded.fraction_permille > 1000) {
      return invalid_argument(
          fmt::format("degraded link: node {} has {}/1000 of a NIC", degraded.node, degraded.fraction_permille));
    }
    RESHARD_TRY(const std::int32_t nic, find_nic(*node->second, degraded));
    const auto target = used.find(degraded.node);
    if (target == used.end()) continue;
    std::vector<std::int32_t>& permille = target->second->permille;
    if (permille.empty()) {
      std::size_t num_nics = 0;
      for (const NodeType::Port& port : node->second->ports) num_nics += port.nics.size();
      permille.assign(num_nics, 1000);
    }
    at(permille, nic) = degraded.fraction_permille;
  }
  return {};
}

}  // namespace

Status check(const Fabric& fabric) {
  const auto refuse = [](const char* what, std::int64_t value, const char* wanted) {
    return invalid_argument(fmt::format("{} is {}; give {}", what, value, wanted));
  };
  if (fabric.num_rails < 0 || fabric.num_rails > kMaxPerNode) {
    return refuse("the number of rails", fabric.num_rails, "0 to 4096");
  }
  if (fabric.leaf_nodes < 0) return refuse("the size of a leaf", fabric.leaf_nodes, "a number of nodes, or 0 for all");
  if (fabric.leaves_per_pod < 0) return refuse("leaves per pod", fabric.leaves_per_pod, "a number, or 0 for all");
  for (const std::int32_t ratio : {fabric.leaf_oversubscription_permille, fabric.pod_oversubscription_permille}) {
    if (ratio < 1) return refuse("an oversubscription in thousandths", ratio, "1 or more");
  }
  if (fabric.uplink_efficiency_permille < 1 || fabric.uplink_efficiency_permille > 1000) {
    return refuse("the efficiency of uplinks in thousandths", fabric.uplink_efficiency_permille, "1 to 1000");
  }
  return {};
}

Result<Machine> make_machine(const ClusterSpec& spec, const std::vector<std::int32_t>& segments) {
  RESHARD_TRY(check_spec(spec));
  RESHARD_TRY(check_segments(segments));
  std::vector<PlacedNode> nodes;
  std::vector<PlacedRank> ranks;
  RESHARD_TRY(place(spec, segments, &nodes, &ranks));
  RESHARD_TRY(degrade(spec, &nodes));
  Machine machine = build_machine(nodes, ranks, spec.fabric);
  machine.name = spec.name;
  return machine;
}

}  // namespace reshard
