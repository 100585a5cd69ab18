// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a tree pays at least, against the cheapest of all trees on random small machines at random prices.
#include "src/plan/bounds/least_tree.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "src/plan/domain_sets.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"
#include "tests/optimum/cheapest_tree.h"
#include "tests/optimum/random.h"

namespace reshard::bounds {
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

/// Of all sizes, many of them 0, or with many ties; or as the router's: nearly all far below the largest.
std::vector<std::uint64_t> draw_prices(Random& random, std::int32_t count) {
  std::vector<std::uint64_t> prices(static_cast<std::size_t>(count));
  const int kind = random.between(0, 3);
  for (std::uint64_t& price : prices) {
    const auto number = static_cast<std::uint64_t>(random.between(1, 1000));
    switch (kind) {
      case 0:
        price = number;
        break;
      case 1:
        price = random.one_in(2) ? 0 : number;
        break;
      case 2:
        price = static_cast<std::uint64_t>(random.of({0, 1, 1, 10, 100}));
        break;
      default:
        price = number * number * number * number >> 4U;
        break;
    }
  }
  return prices;
}

struct Need {
  std::vector<std::int32_t> sources, destinations, lacking;
};

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

optimum::Costs costs_of(const routing::Fabric& fabric, const routing::WayPrices& ways) {
  const std::size_t n = fabric.ranks.size();
  optimum::Costs costs(n, std::vector<double>(n, std::numeric_limits<double>::infinity()));
  for (const RankId src : fabric.ranks.ids()) {
    for (const RankId dst : fabric.ranks.ids()) {
      if (src == dst) continue;
      const std::uint64_t way = ways.way(fabric, src, dst);
      if (way < routing::kNoWay) costs[src.position()][dst.position()] = static_cast<double>(way);
    }
  }
  return costs;
}

RC_GTEST_PROP(LeastTree, IsNeverAboveTheCheapestTree, ()) {
  Random random(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint32_t>()));
  const Machine machine = draw_machine(random);
  const routing::Fabric fabric(machine);
  const routing::WayPrices ways(fabric, draw_prices(random, machine.num_resources()));
  const Need need = draw_need(random, machine.num_ranks());
  if (need.lacking.empty()) return;
  const optimum::Tree tree = optimum::cheapest_tree(costs_of(fabric, ways), need.sources, need.lacking);
  if (tree.cost == std::numeric_limits<double>::infinity()) return;

  RankSets sets;
  Bundle bundle;
  bundle.sources = sets.intern(need.sources);
  bundle.destinations = sets.intern(need.destinations);
  const DomainSets domains(machine, sets);
  const routing::Audience audience(domains, bundle);
  LeastTree trees(fabric, ways);
  const auto least = static_cast<double>(trees.least(audience));
  RC_CLASSIFY(least == tree.cost, "exact");
  RC_ASSERT(least <= tree.cost);
  RC_ASSERT(trees.least(audience) == trees.least(audience));  // nothing stays of the bundle before
}

/// How good it is: of machines of one domain the price of the cheapest tree, and of all machines nearly always.
TEST(LeastTree, IsNearlyAlwaysThePriceOfTheCheapestTree) {
  int num_cases = 0;
  int num_exact = 0;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const Machine machine = draw_machine(random);
    const routing::Fabric fabric(machine);
    const routing::WayPrices ways(fabric, draw_prices(random, machine.num_resources()));
    const Need need = draw_need(random, machine.num_ranks());
    if (need.lacking.empty()) continue;
    const optimum::Tree tree = optimum::cheapest_tree(costs_of(fabric, ways), need.sources, need.lacking);
    if (tree.cost == std::numeric_limits<double>::infinity()) continue;
    RankSets sets;
    Bundle bundle;
    bundle.sources = sets.intern(need.sources);
    bundle.destinations = sets.intern(need.destinations);
    const DomainSets domains(machine, sets);
    LeastTree trees(fabric, ways);
    const bool is_exact = static_cast<double>(trees.least(routing::Audience(domains, bundle))) == tree.cost;
    num_cases += 1;
    num_exact += is_exact ? 1 : 0;
    EXPECT_TRUE(is_exact || machine.domains.size() > 1) << "seed " << seed;
  }
  EXPECT_GE(num_exact * 100, num_cases * 95) << num_exact << " of " << num_cases;
}

}  // namespace
}  // namespace reshard::bounds
