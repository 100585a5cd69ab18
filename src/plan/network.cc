// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A rank's part of its port is the port's rate by the number of ranks that share it, rounded down: the sum of parts is
// at most the port, so that a level that parts keep the port keeps as well.
#include "src/plan/network.h"

#include <algorithm>

namespace reshard {

Network::Network(const Machine& given) : machine(given) {
  std::vector<std::int32_t> num_ranks(machine.ports.size());
  for (const Machine::Gpu& gpu : machine.gpus) {
    if (gpu.port < 0) continue;
    most_ranks_per_port_ = std::max(most_ranks_per_port_, ++at(num_ranks, gpu.port));
  }
  for (const Machine::Gpu& gpu : machine.gpus) {
    const std::int64_t sharing = gpu.port < 0 ? 1 : at(num_ranks, gpu.port);
    out_.push_back(gpu.port < 0 ? 0 : at(machine.ports, gpu.port).out.bytes_per_s() / sharing);
    in_.push_back(gpu.port < 0 ? 0 : at(machine.ports, gpu.port).in.bytes_per_s() / sharing);
    fastest_out_ = std::max(fastest_out_, out_.back());
    fastest_in_ = std::max(fastest_in_, in_.back());
  }
}

/// The first rank that can, in ascending order: every rank must find the same one.
std::int32_t Network::exit_towards(std::int32_t from, std::int32_t to, std::int32_t other) const {
  const auto can = [&](std::int32_t rank) {
    return rank != other && out(rank) > 0 && machine.reaches(RankId(rank), RankId(to));
  };
  if (can(from)) return from;
  const std::vector<std::int32_t>& ranks = at(machine.domains, at(machine.gpus, from).domain).ranks;
  const auto found = std::find_if(ranks.begin(), ranks.end(), can);
  return found == ranks.end() ? -1 : *found;
}

Machine unknown_machine(std::int32_t num_ranks) {
  constexpr Link kLink{1000, 1000, 0};  // any speed: only its being the same everywhere matters
  Machine machine;
  machine.leaves.resize(1);
  machine.pods.resize(1);
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    machine.nodes.emplace_back();
    Machine::Gpu& gpu = machine.gpus.emplace_back();
    gpu.node = NodeId(rank);
    gpu.domain = DomainId(rank);
    gpu.port = PortId(rank);
    Machine::Port& port = machine.ports.emplace_back();
    port.node = NodeId(rank);
    port.out = port.in = kLink;
    machine.domains.push_back({{rank}, {rank}});
  }
  return machine;
}

std::optional<Machine> split_slow_domains(const Machine& machine) {
  const Network network(machine);
  const auto is_slow = [&](std::int32_t rank) {
    // A link without a limit (0) is never slow, and a rank without a port has nowhere else to take its copy from.
    const std::int64_t link = at(machine.gpus, rank).link.bytes_per_s();
    return link > 0 && network.out(rank) > 0 && link < network.in(rank);
  };
  Machine out = machine;
  out.domains.clear();
  for (const Machine::Domain& domain : machine.domains) {
    if (domain.ranks.size() == 1 || !std::all_of(domain.ranks.begin(), domain.ranks.end(), is_slow)) {
      out.domains.push_back(domain);
      continue;
    }
    // Their port stays one and the same for ranks that share it: each has it in its domain, and its part is counted as
    // before.
    for (const std::int32_t rank : domain.ranks) out.domains.push_back({{rank}, {at(machine.gpus, rank).port}});
  }
  if (out.domains.size() == machine.domains.size()) return std::nullopt;
  // Numbers of domains have shifted behind the first that was split; GPUs, ports and leaves are as they were.
  for (const DomainId d : out.domains.ids()) {
    for (const std::int32_t rank : out.domains[d].ranks) at(out.gpus, rank).domain = d;
  }
  return out;
}

}  // namespace reshard
