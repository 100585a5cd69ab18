// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From nodes and ranks that have their places to a Machine: ports of every node that has ranks, leaves and pods above
// them, then the GPUs. Numbers depend only on the order of nodes, blocks, rails and ranks, so that every rank that
// builds a machine from the same description gets the same numbers, and with them the same plan.
#include "topology/machine_builder.h"

#include <algorithm>
#include <map>
#include <utility>

#include "src/base/arithmetic.h"
#include "src/base/at.h"

namespace reshard {
namespace {

// A hop through a leaf or spine switch of InfiniBand or Ethernet takes a few hundred nanoseconds.
constexpr std::int32_t kHopLatencyNs = 500;

/// Some of a list of permilles: those of one port's NICs.
std::vector<std::int32_t> slice(const std::vector<std::int32_t>& all, std::size_t first, std::size_t count) {
  if (all.empty()) return {};
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

bool is_gone(const std::vector<std::int32_t>& permille) {
  return !permille.empty() && std::all_of(permille.begin(), permille.end(), [](std::int32_t p) { return p == 0; });
}

class MachineBuilder {
 public:
  MachineBuilder(const IndexedVector<NodeId, PlacedNode>& nodes, const Fabric& fabric)
      : nodes_(nodes), fabric_(fabric) {
    machine_.rail_isolated = fabric.rail_isolated;
  }

  Machine build(const IndexedVector<RankId, PlacedRank>& ranks) {
    for (const NodeId n : nodes_.ids()) {
      machine_.nodes.push_back({nodes_[n].name, nodes_[n].block});
      add_ports(n);
    }
    add_leaves();
    for (const PlacedRank& rank : ranks) add_gpu(rank);
    for (Machine::Domain& domain : machine_.domains) {
      std::sort(domain.ports.begin(), domain.ports.end());
      domain.ports.erase(std::unique(domain.ports.begin(), domain.ports.end()), domain.ports.end());
    }
    return std::move(machine_);
  }

 private:
  RailId rail_of(const NodeType::Port& port) const {
    return RailId(fabric_.num_rails == 0 ? port.rail : port.rail % fabric_.num_rails);
  }

  /// Adds the ports of a node that are there, and notes which of them each of its GPUs uses.
  void add_ports(NodeId n) {
    const PlacedNode& node = nodes_[n];
    const NodeType& type = *node.type;
    std::vector<PortId> ids(type.ports.size());
    std::size_t first_nic = 0;
    for (std::size_t p = 0; p < type.ports.size(); ++p) {
      const NodeType::Port& port = type.ports[p];
      const std::vector<std::int32_t> permille = slice(node.permille, first_nic, port.nics.size());
      first_nic += port.nics.size();
      if (is_gone(permille)) continue;
      const Link link = port_link(port, permille);
      ids[p] = machine_.ports.push_back({n, rail_of(port), LeafId(0), link, link, port_name(port)});
    }
    port_of_gpu_.push_back(ports_of_gpus(type, ids));
  }

  /// By GPU of the node, -1 where it has none. A GPU whose port is gone takes the one that serves the fewest.
  static std::vector<PortId> ports_of_gpus(const NodeType& type, const std::vector<PortId>& ids) {
    std::vector<std::int32_t> used(ids.size(), 0);
    for (const NodeType::Gpu& gpu : type.gpus) {
      if (gpu.port >= 0) ++at(used, gpu.port);
    }
    std::vector<PortId> ports;
    for (const NodeType::Gpu& gpu : type.gpus) {
      std::int32_t best = gpu.port;
      if (best >= 0 && !at(ids, best).valid()) {
        // The first port that is there replaces the one that is gone, and a less used one replaces that. If all are
        // gone, `best` still names one that is, and the GPU has none.
        for (std::int32_t p = 0; p < static_cast<std::int32_t>(ids.size()); ++p) {
          if (at(ids, p).valid() && (!at(ids, best).valid() || at(used, p) < at(used, best))) best = p;
        }
        ++at(used, best);
      }
      ports.push_back(best < 0 ? PortId() : at(ids, best));
    }
    return ports;
  }

  void add_leaves() {
    std::map<std::pair<std::int32_t, RailId>, LeafId> leaves;  // (block, rail) in ascending order
    std::map<std::int32_t, PodId> pods;
    const auto key = [&](const Machine::Port& port) {
      return std::pair(nodes_[port.node].block, fabric_.num_rails == 1 ? RailId() : port.rail);
    };
    for (const Machine::Port& port : machine_.ports) {
      leaves.try_emplace(key(port));
      pods.try_emplace(nodes_[port.node].pod);
    }
    for (auto& [number, pod] : pods) pod = machine_.pods.push_back({});
    for (auto& [block_rail, leaf] : leaves) {
      leaf = machine_.leaves.push_back({PodId(0), block_rail.first, block_rail.second, {}, {}});
    }
    for (Machine::Port& port : machine_.ports) {
      port.leaf = leaves.at(key(port));
      Machine::Leaf& leaf = machine_.leaves[port.leaf];
      leaf.pod = pods.at(nodes_[port.node].pod);
      // For now the sum of what its ports bring; limit_uplinks() makes the uplink of it.
      leaf.up.nominal_bytes_per_s += port.out.nominal_bytes_per_s;
    }
    limit_uplinks();
  }

  /// Turns the sums of what ports bring into uplinks.
  void limit_uplinks() {
    const auto uplink = [&](std::int64_t below, std::int32_t oversubscription_permille) {
      const auto nominal = static_cast<std::int64_t>(Wide{below} * 1000 / oversubscription_permille);
      return Link{std::max(nominal, kLeastBytesPerS), fabric_.uplink_efficiency_permille, kHopLatencyNs};
    };
    for (Machine::Leaf& leaf : machine_.leaves) {
      leaf.up = uplink(leaf.up.nominal_bytes_per_s, fabric_.leaf_oversubscription_permille);
      machine_.pods[leaf.pod].up.nominal_bytes_per_s += leaf.up.nominal_bytes_per_s;
      // The pod has taken the leaf's share by now. A single leaf has nobody above it to reach.
      if (machine_.leaves.size() == 1) leaf.up.nominal_bytes_per_s = kUnlimited;
      leaf.down = leaf.up;
    }
    for (Machine::Pod& pod : machine_.pods) {
      pod.up = uplink(pod.up.nominal_bytes_per_s, fabric_.pod_oversubscription_permille);
      if (machine_.pods.size() == 1) pod.up.nominal_bytes_per_s = kUnlimited;
      pod.down = pod.up;
    }
  }

  void add_gpu(const PlacedRank& rank) {
    const PlacedNode& node = nodes_[rank.node];
    const NodeType::Gpu& gpu = at(node.type->gpus, rank.gpu);
    const PortId port = at(port_of_gpu_[rank.node], rank.gpu);
    // A new domain, unless another GPU of the same group on the same node, or on nodes that NVLink joins, was here
    // before.
    DomainId domain = machine_.domains.end_id();
    if (gpu.link_group >= 0) domain = domains_.try_emplace({node.domain, gpu.link_group}, domain).first->second;
    if (domain == machine_.domains.end_id()) machine_.domains.push_back({});
    machine_.domains[domain].ranks.push_back(machine_.num_ranks());
    if (port.valid()) machine_.domains[domain].ports.push_back(port);
    machine_.gpus.push_back({rank.node, domain, port, gpu.link, gpu.pcie, gpu.memory, gpu.multicast_permille});
  }

  const IndexedVector<NodeId, PlacedNode>& nodes_;
  const Fabric& fabric_;
  Machine machine_;
  IndexedVector<NodeId, std::vector<PortId>> port_of_gpu_;
  std::map<std::pair<std::int64_t, std::int32_t>, DomainId> domains_;
};

}  // namespace

Machine build_machine(const IndexedVector<NodeId, PlacedNode>& nodes, const IndexedVector<RankId, PlacedRank>& ranks,
                      const Fabric& fabric) {
  return MachineBuilder(nodes, fabric).build(ranks);
}

}  // namespace reshard
