// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/plan/plan.h"

namespace reshard::testing {

constexpr std::int64_t kMega = 1'000'000;

/// A rank of a machine made by hand. Ranks of one node and rail share the node's port on that rail.
struct HandRank {
  std::int32_t node = 0;
  std::int32_t rail = 0;      ///< -1: no port
  std::int64_t port = kMega;  ///< bytes per second, of the first rank that has the port
  std::int64_t link = 8 * kMega;
};

/// Nodes are domains; one leaf for each rail, whose uplinks limit nothing; no latency.
inline Machine hand_machine(const std::vector<HandRank>& ranks) {
  Machine machine;
  machine.pods.resize(1);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const HandRank& rank = ranks[r];
    while (machine.nodes.size() <= static_cast<std::size_t>(rank.node)) {
      machine.nodes.push_back({"n" + std::to_string(machine.nodes.size()), 0});
      machine.domains.emplace_back();
    }
    while (machine.leaves.size() <= static_cast<std::size_t>(std::max(0, rank.rail))) {
      machine.leaves.emplace_back().rail = RailId(machine.leaves.size());
    }
    Machine::Domain& domain = at(machine.domains, rank.node);
    domain.ranks.push_back(static_cast<std::int32_t>(r));
    Machine::Gpu& gpu = machine.gpus.emplace_back();
    gpu.node = NodeId(rank.node);
    gpu.domain = DomainId(rank.node);
    gpu.link.nominal_bytes_per_s = rank.link;
    if (rank.rail < 0) continue;
    for (const std::int32_t port : domain.ports) {
      if (at(machine.ports, port).rail == rank.rail) gpu.port = PortId(port);
    }
    if (gpu.port >= 0) continue;
    gpu.port = machine.ports.end_id();
    domain.ports.push_back(gpu.port);
    Machine::Port& port = machine.ports.emplace_back();
    port.node = NodeId(rank.node);
    port.rail = RailId(rank.rail);
    port.leaf = LeafId(rank.rail);
    port.name = "nic" + std::to_string(rank.rail);
    port.out.nominal_bytes_per_s = port.in.nominal_bytes_per_s = rank.port;
  }
  return machine;
}

/// Windows of 16 KiB, so that filling a chain takes little of a megabyte.
inline PlanOptions options_for(Machine machine) {
  PlanOptions options;
  options.staging_bytes = 32 << 10;
  options.machine = std::make_shared<const Machine>(std::move(machine));
  return options;
}

}  // namespace reshard::testing
