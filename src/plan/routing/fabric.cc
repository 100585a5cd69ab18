// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/fabric.h"

#include <algorithm>

namespace reshard::routing {

Fabric::Fabric(const Machine& given) : machine(given) {
  std::vector<RailId> rails;  // that there are: their numbers may be any
  for (const Machine::Port& port : machine.ports) rails.push_back(port.rail);
  std::sort(rails.begin(), rails.end());
  rails.erase(std::unique(rails.begin(), rails.end()), rails.end());
  for (const Machine::Gpu& gpu : machine.gpus) {
    Rank rank{gpu.domain, LeafId(), PodId(), RailId(0)};
    if (gpu.port.valid()) {
      const Machine::Port& port = machine.ports[gpu.port];
      rank.leaf = port.leaf;
      rank.pod = machine.leaves[port.leaf].pod;
      const auto found = std::lower_bound(rails.begin(), rails.end(), port.rail);
      if (machine.rail_isolated) rank.rail = RailId(found - rails.begin());
    }
    ranks.push_back(rank);
  }
  for (std::int32_t r = 0; r < machine.num_resources(); ++r) capacities.push_back(machine.link_of(r).bytes_per_s());
}

WayPrices::WayPrices(const Fabric& fabric, const std::vector<std::uint64_t>& price) {
  const Machine& machine = fabric.machine;
  const auto of = [&](ResourceKind kind, std::int32_t index) {
    const auto resource = static_cast<std::size_t>(machine.resource(kind, index));
    return fabric.capacities[resource] == kUnlimited ? 0 : price[resource];
  };
  for (const RankId rank : indices<RankId>(machine.num_ranks())) {
    const std::uint64_t memory = of(ResourceKind::kMemory, rank);
    link_out.push_back(memory + of(ResourceKind::kLinkOut, rank));
    link_in.push_back(memory + of(ResourceKind::kLinkIn, rank));
    const PortId port = machine.gpus[rank].port;
    port_out.push_back(port.valid() ? memory + of(ResourceKind::kPcieOut, rank) + of(ResourceKind::kNicOut, port)
                                    : kNoWay);
    port_in.push_back(port.valid() ? memory + of(ResourceKind::kPcieIn, rank) + of(ResourceKind::kNicIn, port)
                                   : kNoWay);
  }
  for (const LeafId leaf : indices<LeafId>(machine.leaves.end_id())) {
    leaf_up.push_back(of(ResourceKind::kLeafUp, leaf));
    leaf_down.push_back(of(ResourceKind::kLeafDown, leaf));
  }
  for (const PodId pod : indices<PodId>(machine.pods.end_id())) {
    pod_up.push_back(of(ResourceKind::kPodUp, pod));
    pod_down.push_back(of(ResourceKind::kPodDown, pod));
  }
}

std::uint64_t WayPrices::crossing(const Fabric& fabric, RankId src, RankId dst) const {
  const Fabric::Rank& from = fabric.ranks[src];
  const Fabric::Rank& to = fabric.ranks[dst];
  if (from.leaf == to.leaf) return 0;
  const std::uint64_t pods = from.pod == to.pod ? 0 : pod_up[from.pod] + pod_down[to.pod];
  return leaf_up[from.leaf] + pods + leaf_down[to.leaf];
}

std::uint64_t WayPrices::way(const Fabric& fabric, RankId src, RankId dst) const {
  if (fabric.ranks[src].domain == fabric.ranks[dst].domain) return link_out[src] + link_in[dst];
  if (!fabric.reaches(src, dst)) return kNoWay;
  return port_out[src] + crossing(fabric, src, dst) + port_in[dst];
}

}  // namespace reshard::routing
