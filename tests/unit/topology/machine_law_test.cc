// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// What holds of every machine that is made, on random clusters.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdio>
#include <map>
#include <numeric>
#include <set>

#include "topology/cluster.h"

namespace reshard {
namespace {

NodeType random_type(int index) {
  NodeType type;
  type.name = "type " + std::to_string(index);
  const int num_ports = *rc::gen::inRange(0, 5);
  const int num_gpus = *rc::gen::inRange(1, 9);
  const int num_groups = *rc::gen::inRange(1, 3);
  for (int p = 0; p < num_ports; ++p) {
    NodeType::Port port{*rc::gen::inRange(0, 4), {}};
    const int num_nics = *rc::gen::inRange(1, 4);
    for (int n = 0; n < num_nics; ++n)
      port.nics.push_back({"nic", {*rc::gen::inRange(1, 100) * 1'000'000'000LL, 920, 1}});
    type.ports.push_back(port);
  }
  for (int g = 0; g < num_gpus; ++g) {
    const int port = num_ports == 0 ? -1 : *rc::gen::inRange(0, num_ports);
    type.gpus.push_back({*rc::gen::inRange(-1, num_groups), port, {450'000'000'000, 822, 1}, {}, {}});
  }
  return type;
}

ClusterSpec random_spec() {
  ClusterSpec spec;
  spec.name = "random";
  const int num_types = *rc::gen::inRange(1, 4);
  for (int t = 0; t < num_types; ++t) {
    spec.types.push_back(random_type(t));
    spec.groups.push_back({t, *rc::gen::inRange(1, 9), {}, *rc::gen::inRange(1, 4)});
  }
  if (*rc::gen::arbitrary<bool>()) spec.groups.back().num_nodes = 0;
  spec.fabric.num_rails = *rc::gen::inRange(0, 4);
  spec.fabric.rail_isolated = *rc::gen::arbitrary<bool>();
  spec.fabric.leaf_nodes = *rc::gen::inRange(0, 4);
  spec.fabric.leaves_per_pod = *rc::gen::inRange(0, 3);
  spec.fabric.leaf_oversubscription_permille = *rc::gen::inRange(500, 4000);
  spec.fabric.pod_oversubscription_permille = *rc::gen::inRange(500, 4000);
  return spec;
}

void check_ranks(const Machine& machine, const ClusterSpec& spec) {
  std::map<std::int32_t, std::size_t> used;  // by node
  for (const Machine::Gpu& gpu : machine.gpus) {
    RC_ASSERT(gpu.node >= 0);
    RC_ASSERT(gpu.node < static_cast<std::int32_t>(machine.nodes.size()));
    ++used[gpu.node];
    // In brackets, for the macro's own || would look up port -1.
    RC_ASSERT((gpu.port == -1 || machine.ports.values().at(gpu.port.position()).node == gpu.node));
  }
  RC_ASSERT(used.size() == machine.nodes.size());
  std::size_t node = 0;
  for (const ClusterSpec::Group& group : spec.groups) {
    const std::size_t end = group.num_nodes == 0 ? used.size() : node + static_cast<std::size_t>(group.num_nodes);
    for (; node < std::min(end, used.size()); ++node) {
      RC_ASSERT(used[static_cast<std::int32_t>(node)] <= spec.types[static_cast<std::size_t>(group.type)].gpus.size());
    }
  }
}

void check_domains(const Machine& machine) {
  std::vector<int> seen(machine.gpus.size(), 0);
  for (std::size_t d = 0; d < machine.domains.size(); ++d) {
    const Machine::Domain& domain = machine.domains[DomainId(d)];
    RC_ASSERT(!domain.ranks.empty());
    RC_ASSERT(std::is_sorted(domain.ranks.begin(), domain.ranks.end()));
    std::set<std::int32_t> ports;
    for (const std::int32_t rank : domain.ranks) {
      ++seen[static_cast<std::size_t>(rank)];
      const Machine::Gpu& gpu = machine.gpus[RankId(rank)];
      RC_ASSERT(gpu.domain == static_cast<std::int32_t>(d));
      if (gpu.port >= 0) ports.insert(gpu.port);
    }
    RC_ASSERT(domain.ports == std::vector<std::int32_t>(ports.begin(), ports.end()));
  }
  RC_ASSERT(std::count(seen.begin(), seen.end(), 1) == static_cast<std::ptrdiff_t>(seen.size()));
}

/// The uplinks as an exact fraction of what lies below, to one byte per second.
void check_uplinks(const Machine& machine, const Fabric& fabric) {
  std::vector<double> leaf_sum(machine.leaves.size(), 0);
  std::vector<double> pod_sum(machine.pods.size(), 0);
  std::set<std::pair<std::int32_t, std::int32_t>> distinct;
  for (const Machine::Leaf& leaf : machine.leaves) RC_ASSERT(distinct.emplace(leaf.block, leaf.rail).second);
  for (const Machine::Port& port : machine.ports) {
    const auto leaf = static_cast<std::size_t>(port.leaf);
    leaf_sum.at(leaf) += static_cast<double>(port.out.nominal_bytes_per_s);
    RC_ASSERT(machine.leaves[LeafId(leaf)].block == machine.nodes[NodeId(port.node)].block);
    RC_ASSERT(machine.leaves[LeafId(leaf)].rail == (fabric.num_rails == 1 ? -1 : port.rail));
  }
  for (std::size_t l = 0; l < leaf_sum.size(); ++l) {
    leaf_sum[l] = leaf_sum[l] * 1000 / fabric.leaf_oversubscription_permille;
    pod_sum.at(static_cast<std::size_t>(machine.leaves[LeafId(l)].pod)) += leaf_sum[l];
    const double want = leaf_sum.size() == 1 ? 0 : leaf_sum[l];
    RC_ASSERT(std::abs(static_cast<double>(machine.leaves[LeafId(l)].up.nominal_bytes_per_s) - want) <= 1);
    RC_ASSERT(machine.leaves[LeafId(l)].up == machine.leaves[LeafId(l)].down);
  }
  for (std::size_t p = 0; p < pod_sum.size(); ++p) {
    const double want = pod_sum.size() == 1 ? 0 : pod_sum[p] * 1000 / fabric.pod_oversubscription_permille;
    const double slack = 1 + static_cast<double>(leaf_sum.size()) * 1000 / fabric.pod_oversubscription_permille;
    RC_ASSERT(std::abs(static_cast<double>(machine.pods[PodId(p)].up.nominal_bytes_per_s) - want) <= slack);
  }
}

/// Resources are numbered by kind, in the order of the kinds, without gaps.
void check_numbers(const Machine& machine) {
  std::int32_t next = 0;
  for (int k = 0; k < kNumResourceKinds; ++k) {
    const auto kind = static_cast<ResourceKind>(k);
    const std::size_t count = k < 4    ? machine.gpus.size()
                              : k < 6  ? machine.ports.size()
                              : k < 8  ? machine.leaves.size()
                              : k < 10 ? machine.pods.size()
                                       : machine.gpus.size();
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(count); ++i, ++next) {
      RC_ASSERT(machine.resource(kind, i) == next);
      RC_ASSERT(machine.kind_of(next) == kind);
      RC_ASSERT(machine.index_of(next) == i);
    }
  }
  RC_ASSERT(machine.num_resources() == next);
}

/// The kinds on the way back are those on the way there in reverse, with out and in swapped.
void check_paths(const Machine& machine) {
  const auto mirror = [](ResourceKind kind) { return static_cast<ResourceKind>(static_cast<int>(kind) ^ 1); };
  for (int i = 0; i < 30; ++i) {
    const auto src = *rc::gen::inRange(0, machine.num_ranks());
    const auto dst = *rc::gen::inRange(0, machine.num_ranks());
    const bool joined = machine.reaches(RankId(src), RankId(dst));
    RC_ASSERT(joined == machine.reaches(RankId(dst), RankId(src)));
    const std::int32_t from = machine.gpus[RankId(src)].port;
    const std::int32_t to = machine.gpus[RankId(dst)].port;
    const bool has_ports = from >= 0 && to >= 0;
    RC_ASSERT(joined == (has_ports && (!machine.rail_isolated ||
                                       machine.ports[PortId(from)].rail == machine.ports[PortId(to)].rail)));
    if (!joined && !machine.same_domain(RankId(src), RankId(dst))) continue;
    std::vector<std::int32_t> there;
    std::vector<std::int32_t> back;
    machine.append_path(RankId(src), RankId(dst), &there);
    machine.append_path(RankId(dst), RankId(src), &back);
    RC_ASSERT(there.size() == back.size());
    RC_ASSERT(machine.latency_ns(RankId(src), RankId(dst)) == machine.latency_ns(RankId(dst), RankId(src)));
    for (std::size_t k = 0; k < there.size(); ++k) {
      const std::int32_t mirrored = back[back.size() - 1 - k];
      RC_ASSERT(machine.kind_of(there[k]) == mirror(machine.kind_of(mirrored)));
      RC_ASSERT(machine.index_of(there[k]) == machine.index_of(mirrored));
    }
  }
}

/// By node and NIC what is left of the speed, in thousandths.
using Fractions = std::map<std::pair<std::size_t, std::size_t>, std::int32_t>;

/// Degrades NICs of nodes 1 to `num_nodes` of a cluster that has at least these, and says which.
Fractions degrade(std::size_t num_nodes, const NodeType& type, ClusterSpec* spec) {
  std::size_t num_nics = 0;
  for (const NodeType::Port& port : type.ports) num_nics += port.nics.size();
  Fractions fractions;
  const int count = num_nics == 0 ? 0 : *rc::gen::inRange(0, 6);
  for (int i = 0; i < count; ++i) {
    const auto node = *rc::gen::inRange<std::size_t>(0, num_nodes);
    const auto nic = *rc::gen::inRange<std::size_t>(0, num_nics);
    const std::int32_t permille = *rc::gen::element(0, 0, 250, 500, 1000);
    char name[16];
    std::snprintf(name, sizeof(name), "n%04zu", node + 1);
    spec->fabric.degraded.push_back({name, std::to_string(nic), permille});
    fractions[{node, nic}] = permille;  // the last word on a NIC counts
  }
  return fractions;
}

/// The ports of a node are those of its type with a NIC that is left, at what is left of them; GPUs keep theirs.
void check_node(const Machine& machine, std::size_t node, const NodeType& type, const Fractions& fractions) {
  std::vector<std::int32_t> ports;  // of the machine, for this node
  for (std::size_t p = 0; p < machine.ports.size(); ++p) {
    if (machine.ports[PortId(p)].node == static_cast<std::int32_t>(node)) ports.push_back(static_cast<std::int32_t>(p));
  }
  std::vector<std::int32_t> left;  // by port of the type, where it is in the machine
  std::size_t nic = 0;
  std::size_t next = 0;
  for (const NodeType::Port& port : type.ports) {
    double speed = 0;
    double nominal = 0;
    for (const NodeType::Nic& each : port.nics) {
      const auto found = fractions.find({node, nic++});
      const double fraction = found == fractions.end() ? 1 : found->second / 1000.0;
      nominal += static_cast<double>(each.link.nominal_bytes_per_s);
      speed += static_cast<double>(each.link.nominal_bytes_per_s) * each.link.efficiency_permille / 1000 * fraction;
    }
    left.push_back(speed > 0 ? ports.at(next) : -1);
    if (speed == 0) continue;
    const Machine::Port& there = machine.ports[PortId(ports[next++])];
    RC_ASSERT(std::abs(static_cast<double>(there.out.bytes_per_s()) - speed) <= nominal * 0.0011);
    RC_ASSERT(there.out == there.in);
  }
  RC_ASSERT(next == ports.size());
  std::size_t gpu = 0;
  for (const Machine::Gpu& each : machine.gpus) {
    if (each.node != static_cast<std::int32_t>(node)) continue;
    const std::int32_t own = type.gpus[gpu++].port;
    const std::int32_t kept = own < 0 ? -1 : left[static_cast<std::size_t>(own)];
    if (kept >= 0 || own < 0 || ports.empty()) {
      RC_ASSERT(each.port == kept);
    } else {
      RC_ASSERT(std::count(ports.begin(), ports.end(), each.port) == 1);
    }
  }
}

TEST(MachineLaws, HoldForDegradedNics) {
  ASSERT_TRUE(rc::check("what is left of NICs is used", [] {
    ClusterSpec spec;
    spec.types.push_back(random_type(0));
    const auto num_nodes = *rc::gen::inRange<std::size_t>(1, 5);
    spec.groups.push_back({0, static_cast<std::int32_t>(num_nodes), {}, 1});
    const Fractions fractions = degrade(num_nodes, spec.types[0], &spec);
    const auto num_ranks = static_cast<std::int32_t>(num_nodes * spec.types[0].gpus.size());
    const Result<Machine> machine = make_machine(spec, {num_ranks});
    RC_ASSERT(machine.ok());
    for (std::size_t node = 0; node < num_nodes; ++node) check_node(*machine, node, spec.types[0], fractions);
    check_domains(*machine);
    check_uplinks(*machine, spec.fabric);
  }));
}

TEST(MachineLaws, HoldForRandomClusters) {
  ASSERT_TRUE(rc::check("every machine is sound", [] {
    const ClusterSpec spec = random_spec();
    const auto num_segments = *rc::gen::inRange(1, 4);
    std::vector<std::int32_t> segments;
    for (int s = 0; s < num_segments; ++s) segments.push_back(*rc::gen::inRange(1, 40));
    const Result<Machine> machine = make_machine(spec, segments);
    if (!machine.ok()) {
      RC_ASSERT(spec.groups.back().num_nodes > 0);
      RC_ASSERT(machine.status().message().find("nodes and there are") != std::string::npos);
      return;
    }
    RC_ASSERT(machine->num_ranks() == std::accumulate(segments.begin(), segments.end(), 0));
    std::int32_t first = 0;
    for (const std::int32_t segment : segments) {
      if (first > 0) RC_ASSERT(machine->gpus[RankId(first)].node != machine->gpus[RankId(first - 1)].node);
      first += segment;
    }
    check_ranks(*machine, spec);
    check_domains(*machine);
    check_uplinks(*machine, spec.fabric);
    check_numbers(*machine);
    check_paths(*machine);
  }));
}

}  // namespace
}  // namespace reshard
