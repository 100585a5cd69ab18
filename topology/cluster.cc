// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From the description of a cluster to the nodes and GPUs that ranks get. A description may have a million nodes, of
// which a job uses a few: everything is counted and checked before anything is made, and only nodes with ranks are
// made.
#include "topology/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "src/base/arithmetic.h"
#include "src/base/at.h"
#include "topology/machine_builder.h"
#include "topology/read/number.h"

namespace reshard {
namespace {

constexpr std::int64_t kMaxMachineRanks = 1 << 22;
constexpr std::int64_t kMaxPorts = 2 * kMaxMachineRanks;  // a gigabyte of them

/// Of a node that has none of its own: n0001 is the first.
std::string default_name(std::int64_t index) {
  return fmt::format("n{:04}", index + 1);
}

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
    return names.empty() ? default_name(total_) : at(names, index_);
  }

  PlacedNode placed() const {
    PlacedNode node;
    node.type = &type();
    node.name = name();
    // Domains are numbered so that no two groups and no imported number collide.
    node.domain = first_of_group_ + index_ / std::max(1, group().domain_nodes);
    if (spec_.places.empty()) {
      node.block = spec_.fabric.block_of(total_);
      node.pod = spec_.fabric.pod_of(node.block);
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
  if (num_nodes > kMaxMachineRanks)
    return invalid_argument(fmt::format("{} nodes; at most {}", num_nodes, kMaxMachineRanks));
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
  if (num_ranks < 1 || num_ranks > kMaxMachineRanks) {
    return invalid_argument(fmt::format("a machine for {} ranks; give 1 to {}", num_ranks, kMaxMachineRanks));
  }
  return {};
}

/// How many nodes the ranks take, counted before anything is made of them. Errors: more than there are; too many ports.
Result<std::int64_t> count_nodes(const ClusterSpec& spec, const std::vector<std::int32_t>& segments) {
  std::int64_t num_taken = 0;
  std::int64_t num_missing = 0;
  std::int64_t num_ports = 0;
  std::size_t g = 0;
  std::int64_t taken_of_group = 0;
  for (const std::int32_t segment : segments) {
    std::int64_t left = segment;
    while (left > 0 && g < spec.groups.size()) {
      const ClusterSpec::Group& group = spec.groups[g];
      const NodeType& type = at(spec.types, group.type);
      const auto num_gpus = static_cast<std::int64_t>(type.gpus.size());
      // Whole nodes: a segment that ends within a node leaves its other GPUs idle, for the next starts on a fresh one.
      std::int64_t taken = ceil_div(left, num_gpus);
      if (group.num_nodes > 0) taken = std::min(taken, group.num_nodes - taken_of_group);
      left -= std::min(left, taken * num_gpus);
      num_taken += taken;
      num_ports += taken * static_cast<std::int64_t>(type.ports.size());
      taken_of_group += taken;
      // A group that leaves its number open never ends, so that `left` is 0 after it. Else go on in the next group.
      if (group.num_nodes == 0 || taken_of_group < group.num_nodes) continue;
      taken_of_group = 0;
      ++g;
    }
    // Ranks behind the last node are told in nodes of the last kind.
    const std::size_t num_gpus = spec.groups.empty() ? 1 : at(spec.types, spec.groups.back().type).gpus.size();
    num_missing += ceil_div(left, static_cast<std::int64_t>(num_gpus));
  }
  if (num_missing > 0) {
    return invalid_argument(
        fmt::format("{}: the ranks need {} nodes and there are {}", spec.name, num_taken + num_missing, num_taken));
  }
  if (num_ports <= kMaxPorts) return num_taken;
  return invalid_argument(
      fmt::format("{}: the ranks' nodes have {} ports; at most {}", spec.name, num_ports, kMaxPorts));
}

/// Gives ranks their nodes and GPUs. Nodes are taken one after the other, so that their indices are those of the spec.
/// @pre count_nodes
void place(const ClusterSpec& spec, const std::vector<std::int32_t>& segments, IndexedVector<NodeId, PlacedNode>* nodes,
           IndexedVector<RankId, PlacedRank>* ranks) {
  NodeCursor cursor(spec);
  for (std::int32_t left : segments) {
    for (; left > 0; cursor.next()) {
      const std::int32_t num_gpus = std::min(left, static_cast<std::int32_t>(cursor.type().gpus.size()));
      for (std::int32_t gpu = 0; gpu < num_gpus; ++gpu) {
        ranks->push_back({nodes->end_id(), gpu});
      }
      left -= num_gpus;
      nodes->push_back(cursor.placed());
    }
  }
}

struct FoundNode {
  std::int64_t index = 0;  // in the spec
  const NodeType* type = nullptr;
};

/// Nodes by name. A cluster may have a million without names of their own, so these are computed and not listed.
class NodeFinder {
 public:
  /// @param wanted names to find
  /// @param num_used nodes that have ranks: as many there are of a group that leaves its number open
  NodeFinder(const ClusterSpec& spec, const std::vector<DegradedNic>& wanted, std::int64_t num_used)
      : spec_(spec), num_used_(num_used) {
    std::unordered_set<std::string_view> names;
    for (const DegradedNic& degraded : wanted) names.insert(degraded.node);
    std::int64_t first = 0;
    for (const ClusterSpec::Group& group : spec.groups) {
      for (std::size_t n = 0; n < group.names.size(); ++n) {
        if (names.count(group.names[n]) == 0) continue;
        named_.try_emplace(group.names[n],
                           FoundNode{first + static_cast<std::int64_t>(n), &at(spec.types, group.type)});
      }
      first += group.num_nodes;
    }
  }

  /// Nothing where there is none.
  std::optional<FoundNode> find(const std::string& name) const {
    if (const auto found = named_.find(name); found != named_.end()) return found->second;
    const std::optional<std::int64_t> number = parse_number(name);
    if (!number) return std::nullopt;
    std::int64_t first = 0;
    for (const ClusterSpec::Group& group : spec_.groups) {
      const std::int64_t index = *number - 1;
      // Names count through all groups: n0012 is the twelfth node of the cluster, if its group gives no names.
      const std::int64_t end = group.num_nodes == 0 ? num_used_ : first + group.num_nodes;
      if (index >= first && index < end && group.names.empty()) return FoundNode{index, &at(spec_.types, group.type)};
      first += group.num_nodes;
    }
    return std::nullopt;
  }

 private:
  /// 12 of "n0012", if that is how node 12 is called.
  static std::optional<std::int64_t> parse_number(const std::string& name) {
    if (!name.starts_with('n')) return std::nullopt;
    auto number = parse_integer(name.substr(1), 1, kMaxMachineRanks, "a node");
    if (!number.ok() || default_name(*number - 1) != name) return std::nullopt;
    return *number;
  }

  const ClusterSpec& spec_;
  std::int64_t num_used_;
  std::unordered_map<std::string_view, FoundNode> named_;
};

/// A degraded NIC of a node: its index among the NICs.
struct FoundNic {
  FoundNode node;
  std::int32_t nic = 0;
  std::int32_t permille = 1000;
};

/// Finds what is degraded, also on nodes without ranks.
Result<std::vector<FoundNic>> find_degraded(const ClusterSpec& spec, std::int64_t num_used) {
  const NodeFinder finder(spec, spec.fabric.degraded, num_used);
  std::vector<FoundNic> found;
  for (const DegradedNic& degraded : spec.fabric.degraded) {
    const std::optional<FoundNode> node = finder.find(degraded.node);
    if (!node.has_value()) {
      return invalid_argument(
          fmt::format("degraded link: there is no node {:.60}; nodes without names are n0001 and on", degraded.node));
    }
    if (degraded.fraction_permille < 0 || degraded.fraction_permille > 1000) {
      return invalid_argument(
          fmt::format("degraded link: node {} has {}/1000 of a NIC", degraded.node, degraded.fraction_permille));
    }
    RESHARD_TRY(const std::int32_t nic, find_nic(*node->type, degraded));
    found.push_back({*node, nic, degraded.fraction_permille});
  }
  return found;
}

void degrade(const std::vector<FoundNic>& found, IndexedVector<NodeId, PlacedNode>* nodes) {
  for (const FoundNic& degraded : found) {
    if (degraded.node.index >= static_cast<std::int64_t>(nodes->size())) continue;  // it has no ranks
    std::vector<std::int32_t>& permille = (*nodes)[NodeId(degraded.node.index)].permille;
    if (permille.empty()) {
      std::size_t num_nics = 0;
      for (const NodeType::Port& port : degraded.node.type->ports) num_nics += port.nics.size();
      // The first bad NIC of this node: until now an empty list said that all are whole.
      permille.assign(num_nics, 1000);
    }
    at(permille, degraded.nic) = degraded.permille;
  }
}

}  // namespace

Status check(const Fabric& fabric) {
  const auto refuse = [](const char* what, std::int64_t value, const std::string& wanted) {
    return invalid_argument(fmt::format("{} is {}; give {}", what, value, wanted));
  };
  if (fabric.num_rails < 0 || fabric.num_rails > kMaxPerNode) {
    return refuse("the number of rails", fabric.num_rails, fmt::format("0 to {}", kMaxPerNode));
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
  RESHARD_TRY(const std::int64_t num_used, count_nodes(spec, segments));
  RESHARD_TRY(const std::vector<FoundNic> degraded, find_degraded(spec, num_used));
  IndexedVector<NodeId, PlacedNode> nodes;
  IndexedVector<RankId, PlacedRank> ranks;
  place(spec, segments, &nodes, &ranks);
  degrade(degraded, &nodes);
  Machine machine = build_machine(nodes, ranks, spec.fabric);
  machine.name = spec.name;
  return machine;
}

}  // namespace reshard
