// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/small_machine.h"

#include <algorithm>

namespace reshard::testing {
namespace {

using optimum::Random;

constexpr int kMostRanks = 7;

/// Limited or not; the rate does not matter here.
void draw_link(Random& random, Link* link) {
  link->nominal_bytes_per_s = random.one_in(5) ? kUnlimited : 1'000'000;
}

void draw_fabric(Random& random, Machine* machine) {
  machine->rail_isolated = random.one_in(6);
  machine->pods.resize(static_cast<std::size_t>(random.between(1, 2)));
  for (Machine::Pod& pod : machine->pods) draw_link(random, &pod.up), draw_link(random, &pod.down);
  machine->leaves.resize(static_cast<std::size_t>(random.between(1, 4)));
  for (Machine::Leaf& leaf : machine->leaves) {
    leaf.pod = PodId(random.between(0, machine->pods.end_id() - 1));
    draw_link(random, &leaf.up), draw_link(random, &leaf.down);
  }
}

/// A port of its own, a port that some rank has already, or none.
void draw_port(Random& random, LeafId leaf, Machine* machine, Machine::Gpu* gpu) {
  if (random.one_in(6)) return;
  if (!machine->ports.empty() && random.one_in(4)) {
    gpu->port = PortId(random.between(0, machine->ports.end_id() - 1));
  } else {
    gpu->port = machine->ports.end_id();
    Machine::Port& port = machine->ports.emplace_back();
    port.leaf = leaf;
    port.rail = RailId(machine->rail_isolated ? random.between(0, 1) : 0);
    draw_link(random, &port.out), draw_link(random, &port.in);
  }
  std::vector<std::int32_t>& ports = machine->domains[gpu->domain].ports;
  if (std::find(ports.begin(), ports.end(), gpu->port.value()) == ports.end()) ports.push_back(gpu->port);
}

}  // namespace

Machine draw_machine(Random& random) {
  Machine machine;
  draw_fabric(random, &machine);
  machine.nodes.resize(1);
  const int num_ranks = random.between(2, kMostRanks);
  const int num_domains = std::min(num_ranks, random.between(1, random.one_in(3) ? num_ranks : 3));
  machine.domains.resize(static_cast<std::size_t>(num_domains));
  const auto draw_leaf = [&] { return LeafId(random.between(0, machine.leaves.end_id() - 1)); };
  std::vector<LeafId> home;
  for (int d = 0; d < num_domains; ++d) home.push_back(draw_leaf());
  const bool is_spread = random.one_in(3);  // a domain's ports over leaves
  for (int rank = 0; rank < num_ranks; ++rank) {
    const int domain = rank < num_domains ? rank : random.between(0, num_domains - 1);
    Machine::Gpu& gpu = machine.gpus.emplace_back();
    gpu.domain = DomainId(domain);
    machine.domains[gpu.domain].ranks.push_back(rank);
    for (Link* link : {&gpu.link, &gpu.pcie, &gpu.memory}) draw_link(random, link);
    draw_port(random, is_spread ? draw_leaf() : home[static_cast<std::size_t>(domain)], &machine, &gpu);
  }
  return machine;
}

Need draw_need(Random& random, int num_ranks) {
  Need need;
  const int first = random.between(0, num_ranks - 1);
  const int one_in = random.between(1, 3);
  const bool is_alone = random.one_in(2);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const bool holds = rank == first || (!is_alone && random.one_in(4));
    if (holds) need.sources.push_back(rank);
    if ((holds && !random.one_in(3)) || !random.one_in(one_in)) continue;
    need.destinations.push_back(rank);
    if (!holds) need.lacking.push_back(rank);
  }
  return need;
}

}  // namespace reshard::testing
