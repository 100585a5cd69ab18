// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "topology/cluster.h"
#include "topology/machine_builder.h"

namespace reshard {
namespace {

/// Nodes in the order of their first ranks, each different text read once.
class Gathering {
 public:
  explicit Gathering(const Fabric& fabric) : fabric_(fabric) {}

  Status add(std::size_t rank, const NodeOfRank& said) {
    const auto [it, is_new] = index_.try_emplace({said.boot_id, said.hostname}, nodes_.end_id());
    if (is_new) nodes_.push_back({name_of(said.hostname), &said.text, said.domain_id, {}});
    Node& node = nodes_[it->second];
    if (*node.text != said.text) {
      return invalid_argument(
          fmt::format("rank {} describes host {} otherwise than the ranks before it there", rank, said.hostname));
    }
    if (node.domain_id != said.domain_id) {
      return invalid_argument(fmt::format("rank {} on host {} is of NVLink domain \"{}\", ranks before it of \"{}\"",
                                          rank, said.hostname, said.domain_id, node.domain_id));
    }
    if (said.local_index < 0 || said.local_index >= kMaxPerNode) {
      return invalid_argument(
          fmt::format("rank {} on host {} has local index {}", rank, said.hostname, said.local_index));
    }
    if (!node.local.insert(said.local_index).second) {
      return invalid_argument(
          fmt::format("rank {} on host {}: index {} is another rank's too", rank, said.hostname, said.local_index));
    }
    ranks_.push_back({it->second, said.local_index});
    return {};
  }

  Result<Machine> build() {
    IndexedVector<NodeId, NodeType> types(nodes_.size());  // of stable addresses: equal texts share the first one's
    std::map<std::pair<std::string, std::int32_t>, const NodeType*> known;
    std::map<std::string, std::int64_t> domains;
    IndexedVector<NodeId, PlacedNode> placed;
    for (const NodeId n : nodes_.ids()) {
      const Node& node = nodes_[n];
      const std::int32_t last = *node.local.rbegin();
      // On a host without GPUs the number of processes is part of what it is.
      const NodeType*& type = known[{*node.text, last}];
      if (type == nullptr) {
        RESHARD_TRY(types[n], read(node, last));
        type = &types[n];
      }
      const std::int32_t block = fabric_.block_of(n);
      std::int64_t domain = n;
      if (!node.domain_id.empty()) {
        domain = domains.try_emplace(node.domain_id, -1 - static_cast<std::int64_t>(domains.size())).first->second;
      }
      placed.push_back({type, node.hostname, block, fabric_.pod_of(block), domain, {}});
    }
    return build_machine(placed, ranks_, fabric_);
  }

 private:
  struct Node {
    std::string hostname;
    const std::string* text = nullptr;
    std::string domain_id;
    std::set<std::int32_t> local;
  };

  static Result<NodeType> read(const Node& node, std::int32_t last) {
    Result<NodeType> type = node_from_text(*node.text);
    if (!type.ok()) return type.take_status().with_context("host " + node.hostname);
    if (type->gpus.empty()) return with_processes(type.take(), last + 1);
    if (last < static_cast<std::int32_t>(type->gpus.size())) return type;
    return invalid_argument(
        fmt::format("host {} has {} GPUs, and a rank on GPU {}", node.hostname, type->gpus.size(), last));
  }

  /// Hosts of one name are told apart in reports: "node", "node#2".
  std::string name_of(const std::string& hostname) {
    const std::int64_t number = ++hosts_of_name_[hostname];
    return number == 1 ? hostname : fmt::format("{}#{}", hostname, number);
  }

  const Fabric& fabric_;
  std::map<std::pair<std::string, std::string>, NodeId> index_;  // by boot id and name
  std::map<std::string, std::int64_t> hosts_of_name_;
  IndexedVector<NodeId, Node> nodes_;
  IndexedVector<RankId, PlacedRank> ranks_;
};

}  // namespace

Result<Machine> make_machine_from_nodes(const std::vector<NodeOfRank>& ranks, const Fabric& fabric) {
  if (ranks.empty()) return invalid_argument("a machine for 0 ranks");
  if (!fabric.degraded.empty()) return invalid_argument("degraded links belong to a cluster, not to discovered nodes");
  RESHARD_TRY(check(fabric));
  Gathering gathering(fabric);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) RESHARD_TRY(gathering.add(rank, ranks[rank]));
  RESHARD_TRY(Machine machine, gathering.build());
  machine.name = "discovered";
  return machine;
}

}  // namespace reshard
