// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/uses.h"

namespace reshard::routing {

Uses::Uses(const Fabric& fabric) : fabric_(fabric), free_(fabric.machine.num_resources()) {
  const Machine& machine = fabric.machine;
  const auto number = [&](ResourceKind kind, std::int32_t index) {
    const std::int32_t resource = machine.resource(kind, index);
    return at(fabric.capacities, resource) == kUnlimited ? free_ : resource;
  };
  for (const RankId rank : indices<RankId>(machine.num_ranks())) {
    const PortId port = machine.gpus[rank].port;
    of_rank_.push_back({number(ResourceKind::kMemory, rank), number(ResourceKind::kLinkOut, rank),
                        number(ResourceKind::kLinkIn, rank), number(ResourceKind::kPcieOut, rank),
                        number(ResourceKind::kPcieIn, rank), port.valid() ? number(ResourceKind::kNicOut, port) : free_,
                        port.valid() ? number(ResourceKind::kNicIn, port) : free_});
  }
  for (const LeafId leaf : machine.leaves.ids()) {
    leaf_up_.push_back(number(ResourceKind::kLeafUp, leaf));
    leaf_down_.push_back(number(ResourceKind::kLeafDown, leaf));
  }
  for (const PodId pod : machine.pods.ids()) {
    pod_up_.push_back(number(ResourceKind::kPodUp, pod));
    pod_down_.push_back(number(ResourceKind::kPodDown, pod));
  }
}

}  // namespace reshard::routing
