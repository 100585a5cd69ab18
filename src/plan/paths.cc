// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/paths.h"

namespace reshard {

/// Latencies are counted once: of a domain's links that of the sender's, of PCIe none.
Paths::Paths(const Machine& machine) {
  const auto rate = [](const Link& link) { return link.is_limited() ? link.bytes_per_s() : kNoLimit; };
  const auto end = [&](const Link& link) { return End{rate(link), link.latency_ns}; };
  for (const Machine::Gpu& gpu : machine.gpus) {
    OfRank rank;
    rank.domain = gpu.domain;
    rank.link_out = end(gpu.link);
    rank.link_in = {rate(gpu.link), 0};
    if (gpu.port.valid()) {
      const Machine::Port& port = machine.ports[gpu.port];
      rank.leaf = port.leaf;
      rank.port_out = {std::min(rate(gpu.pcie), rate(port.out)), port.out.latency_ns};
      rank.port_in = {std::min(rate(gpu.pcie), rate(port.in)), port.in.latency_ns};
    }
    ranks_.push_back(rank);
  }
  for (const Machine::Leaf& leaf : machine.leaves) leaves_.push_back({leaf.pod, end(leaf.up), end(leaf.down)});
  for (const Machine::Pod& pod : machine.pods) pods_.push_back({end(pod.up), end(pod.down)});
}

}  // namespace reshard
