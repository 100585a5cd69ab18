// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

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

/// One tensor of `bytes` bytes on `sources`, each all of it, wanted whole by each of `destinations`.
inline Plan replicate(const std::vector<std::int32_t>& sources, const std::vector<std::int32_t>& destinations,
                      std::int64_t bytes, const PlanOptions& options) {
  std::shared_ptr<ModelLayout> sides[2];
  for (const bool is_dst : {false, true}) {
    const std::vector<std::int32_t>& ranks = is_dst ? destinations : sources;
    auto& side = sides[is_dst ? 1 : 0];
    side = std::make_shared<ModelLayout>(options.machine->num_ranks());
    const std::int64_t id = *side->add_tensor({"w", DType::kU8, {bytes / 1000, 1000}, 0});
    Placement placement;
    placement.mesh = *Mesh::create({{"dp", static_cast<std::int64_t>(ranks.size())}}, ranks);
    placement.dims.resize(2);
    placement.buffer = side->add_buffer("w", DType::kU8);
    EXPECT_TRUE(side->place(id, placement).ok());
  }
  Result<Plan> plan = create_plan(sides[0], sides[1], options);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}
inline Plan replicate(const Machine& machine, const std::vector<std::int32_t>& sources,
                      const std::vector<std::int32_t>& destinations, std::int64_t bytes = 2 * kMega) {
  return replicate(sources, destinations, bytes, options_for(machine));
}

}  // namespace reshard::testing
