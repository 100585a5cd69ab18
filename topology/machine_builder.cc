// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
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
  MachineBuilder(const std::vector<PlacedNode>& nodes, const Fabric& fabric) : nodes_(nodes), fabric_(fabric) {
    machine_.rail_isolated = fabric.rail_isolated;
  }

  Machine build(const std::vector<PlacedRank>& ranks) {
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      machine_.nodes.push_back({nodes_[n].name, nodes_[n].block});
      add_ports(static_cast<std::int32_t>(n));
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
  std::int32_t rail_of(const NodeType::Port& port) const {
    return fabric_.num_rails == 0 ? port.rail : port.rail % fabric_.num_rails;
  }

  /// Adds the ports of a node that are there, and notes which of them each of its GPUs uses.
  void add_ports(std::int32_t n) {
    const PlacedNode& node = at(nodes_, n);
    const NodeType& type = *node.type;
    std::vector<std::int32_t> index(type.ports.size(), -1);
    std::size_t first_nic = 0;
    for (std::size_t p = 0; p < type.ports.size(); ++p) {
      const NodeType::Port& port = type.ports[p];
      const std::vector<std::int32_t> permille = slice(node.permille, first_nic, port.nics.size());
      first_nic += port.nics.size();
      if (is_gone(permille)) continue;
      index[p] = static_cast<std::int32_t>(machine_.ports.size());
      const Link link = port_link(port, permille);
      machine_.ports.push_back({n, rail_of(port), 0, link, link, port_name(port)});
    }
    port_of_gpu_.push_back(ports_of_gpus(type, index));
  }

  /// By GPU of the node, -1 where it has none. A GPU whose port is gone takes the one that serves the fewest.
  static std::vector<std::int32_t> ports_of_gpus(const NodeType& type, const std::vector<std::int32_t>& index) {
    std::vector<std::int32_t> used(index.size(), 0);
    for (const NodeType::Gpu& gpu : type.gpus) {
      if (gpu.port >= 0) ++at(used, gpu.port);
    }
    std::vector<std::int32_t> ports;
    for (const NodeType::Gpu& gpu : type.gpus) {
      std::int32_t best = gpu.port;
      if (best >= 0 && at(index, best) < 0) {
        for (std::int32_t p = 0; p < static_cast<std::int32_t>(index.size()); ++p) {
          if (at(index, p) >= 0 && (at(index, best) < 0 || at(used, p) < at(used, best))) best = p;
        }
        ++at(used, best);
      }
      ports.push_back(best < 0 ? -1 : at(index, best));
    }
    return ports;
  }

  void add_leaves() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> leaves;  // (block, rail) in ascending order
    std::map<std::int32_t, std::int32_t> pods;
    const auto key = [&](const Machine::Port& port) {
      return std::pair(at(nodes_, port.node).block, fabric_.num_rails == 1 ? -1 : port.rail);
    };
    for (const Machine::Port& port : machine_.ports) {
      leaves.try_emplace(key(port), 0);
      pods.try_emplace(at(nodes_, port.node).pod, 0);
    }
    for (auto& [pod, index] : pods) {
      index = static_cast<std::int32_t>(machine_.pods.size());
      machine_.pods.emplace_back();
    }
    for (auto& [block_rail, index] : leaves) {
      index = static_cast<std::int32_t>(machine_.leaves.size());
      machine_.leaves.push_back({0, block_rail.first, block_rail.second, {}, {}});
    }
    for (Machine::Port& port : machine_.ports) {
      port.leaf = leaves.at(key(port));
      Machine::Leaf& leaf = at(machine_.leaves, port.leaf);
      leaf.pod = pods.at(at(nodes_, port.node).pod);
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
      at(machine_.pods, leaf.pod).up.nominal_bytes_per_s += leaf.up.nominal_bytes_per_s;
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
    const PlacedNode& node = at(nodes_, rank.node);
    const NodeType::Gpu& gpu = at(node.type->gpus, rank.gpu);
    const std::int32_t port = at(at(port_of_gpu_, rank.node), rank.gpu);
    auto domain = static_cast<std::int32_t>(machine_.domains.size());
    if (gpu.link_group >= 0) domain = domains_.try_emplace({node.domain, gpu.link_group}, domain).first->second;
    if (domain == static_cast<std::int32_t>(machine_.domains.size())) machine_.domains.emplace_back();
    at(machine_.domains, domain).ranks.push_back(machine_.num_ranks());
    if (port >= 0) at(machine_.domains, domain).ports.push_back(port);
    machine_.gpus.push_back({rank.node, domain, port, gpu.link, gpu.pcie, gpu.memory_bytes_per_s});
  }

  const std::vector<PlacedNode>& nodes_;
  const Fabric& fabric_;
  Machine machine_;
  std::vector<std::vector<std::int32_t>> port_of_gpu_;
  std::map<std::pair<std::int64_t, std::int32_t>, std::int32_t> domains_;
};

}  // namespace

Machine build_machine(const std::vector<PlacedNode>& nodes, const std::vector<PlacedRank>& ranks,
                      const Fabric& fabric) {
  return MachineBuilder(nodes, fabric).build(ranks);
}

}  // namespace reshard
