// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The graph behind the numbers of resources, and the one way that bytes take between two ranks. Planning, estimates and
// the simulation all ask here, so that they cannot disagree about which links a transfer loads.
#include "topology/machine.h"

#include <fmt/format.h>

#include <array>

#include "src/base/hasher.h"

namespace reshard {
namespace {

/// Where the resources of a kind begin, and how many there are: four kinds of GPUs, two each of the others, and at the
/// end the GPUs' memory. All
/// links of a machine are numbered in one row, kind after kind in the order of ResourceKind, so that loads, prices and
/// rates are plain vectors by that number. A GPU without a port, or a link without a limit, keeps its number and goes
/// unused: then numbers follow from counts alone.
struct Span {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

Span span_of(const Machine& machine, int kind) {
  const std::int32_t num_ports = machine.ports.end_id();
  const std::int32_t num_leaves = machine.leaves.end_id();
  const std::int32_t num_pods = machine.pods.end_id();
  const std::int32_t first_port = 4 * machine.num_ranks();
  const std::int32_t first_leaf = first_port + 2 * num_ports;
  const std::int32_t first_pod = first_leaf + 2 * num_leaves;
  if (kind < static_cast<int>(ResourceKind::kNicOut)) return {kind * machine.num_ranks(), machine.num_ranks()};
  if (kind < static_cast<int>(ResourceKind::kLeafUp)) return {first_port + (kind - 4) * num_ports, num_ports};
  if (kind < static_cast<int>(ResourceKind::kPodUp)) return {first_leaf + (kind - 6) * num_leaves, num_leaves};
  if (kind < static_cast<int>(ResourceKind::kMemory)) return {first_pod + (kind - 8) * num_pods, num_pods};
  return {first_pod + 2 * num_pods, machine.num_ranks()};
}

void add(const Link& link, Hasher* hasher) {
  hasher->add(link.nominal_bytes_per_s);
  hasher->add(link.efficiency_permille);
  hasher->add(link.latency_ns);
}

}  // namespace

// In the order of ResourceKind.
const char* name(ResourceKind kind) {
  static constexpr std::array<const char*, kNumResourceKinds> kNames = {"link out", "link in",  "pcie out", "pcie in",
                                                                        "nic out",  "nic in",   "leaf up",  "leaf down",
                                                                        "pod up",   "pod down", "memory"};
  return kNames.at(static_cast<std::size_t>(kind));
}

std::int32_t Machine::resource(ResourceKind kind, std::int32_t index) const {
  return span_of(*this, static_cast<int>(kind)).first + index;
}

std::int32_t Machine::num_resources() const {
  return resource(ResourceKind::kMemory, num_ranks());
}

ResourceKind Machine::kind_of(std::int32_t resource) const {
  for (int k = 0; k + 1 < kNumResourceKinds; ++k) {
    const Span span = span_of(*this, k);
    if (resource < span.first + span.count) return static_cast<ResourceKind>(k);
  }
  return ResourceKind::kMemory;
}

std::int32_t Machine::index_of(std::int32_t resource) const {
  return resource - this->resource(kind_of(resource), 0);
}

const Link& Machine::link_of(std::int32_t resource) const {
  const std::int32_t index = index_of(resource);
  switch (kind_of(resource)) {
    case ResourceKind::kLinkOut:
    case ResourceKind::kLinkIn:
      return gpus[RankId(index)].link;
    case ResourceKind::kPcieOut:
    case ResourceKind::kPcieIn:
      return gpus[RankId(index)].pcie;
    case ResourceKind::kNicOut:
      return ports[PortId(index)].out;
    case ResourceKind::kNicIn:
      return ports[PortId(index)].in;
    case ResourceKind::kLeafUp:
      return leaves[LeafId(index)].up;
    case ResourceKind::kLeafDown:
      return leaves[LeafId(index)].down;
    case ResourceKind::kPodUp:
      return pods[PodId(index)].up;
    case ResourceKind::kPodDown:
      return pods[PodId(index)].down;
    default:
      return gpus[RankId(index)].memory;
  }
}

std::string Machine::describe(std::int32_t resource) const {
  const ResourceKind kind = kind_of(resource);
  const std::int32_t index = index_of(resource);
  switch (kind) {
    case ResourceKind::kNicOut:
    case ResourceKind::kNicIn: {
      const Port& port = ports[PortId(index)];
      return fmt::format("{} of {} on {}", reshard::name(kind), port.name, nodes[port.node].name);
    }
    case ResourceKind::kLeafUp:
    case ResourceKind::kLeafDown: {
      const Leaf& leaf = leaves[LeafId(index)];
      const std::string rail = leaf.rail.valid() ? fmt::format("rail {}", leaf.rail.value()) : "all rails";
      return fmt::format("{} of leaf {} (block {}, {})", reshard::name(kind), index, leaf.block, rail);
    }
    case ResourceKind::kPodUp:
    case ResourceKind::kPodDown:
      return fmt::format("{} of pod {}", reshard::name(kind), index);
    default:
      return fmt::format("{} of rank {} on {}", reshard::name(kind), index, nodes[gpus[RankId(index)].node].name);
  }
}

bool Machine::same_domain(RankId a, RankId b) const {
  return gpus[a].domain == gpus[b].domain;
}

bool Machine::reaches(RankId src, RankId dst) const {
  const PortId from = gpus[src].port;
  const PortId to = gpus[dst].port;
  if (!from.valid() || !to.valid()) return false;
  return !rail_isolated || ports[from].rail == ports[to].rail;
}

void Machine::append_path(RankId src, RankId dst, std::vector<std::int32_t>* out) const {
  const auto pass = [&](ResourceKind kind, std::int32_t index, const Link& link) {
    if (link.is_limited()) out->push_back(resource(kind, index));
  };
  if (src == dst) return;
  const Gpu& sender = gpus[src];
  const Gpu& receiver = gpus[dst];
  if (sender.domain == receiver.domain) {
    pass(ResourceKind::kLinkOut, src, sender.link);
    pass(ResourceKind::kLinkIn, dst, receiver.link);
    return;
  }
  const Port& from = ports[sender.port];
  const Port& to = ports[receiver.port];
  pass(ResourceKind::kPcieOut, src, sender.pcie);
  pass(ResourceKind::kNicOut, sender.port, from.out);
  // Up only as far as the two have to: ports of one leaf load no uplink, leaves of one pod none of the pod's. On the
  // way down each tier is the one above it in reverse.
  if (from.leaf != to.leaf) {
    const Leaf& from_leaf = leaves[from.leaf];
    const Leaf& to_leaf = leaves[to.leaf];
    pass(ResourceKind::kLeafUp, from.leaf, from_leaf.up);
    if (from_leaf.pod != to_leaf.pod) {
      pass(ResourceKind::kPodUp, from_leaf.pod, pods[from_leaf.pod].up);
      pass(ResourceKind::kPodDown, to_leaf.pod, pods[to_leaf.pod].down);
    }
    pass(ResourceKind::kLeafDown, to.leaf, to_leaf.down);
  }
  pass(ResourceKind::kNicIn, receiver.port, to.in);
  pass(ResourceKind::kPcieIn, dst, receiver.pcie);
}

void Machine::append_uses(RankId src, RankId dst, std::vector<std::int32_t>* out) const {
  append_path(src, dst, out);
  for (const RankId end : {src, dst}) {
    if (gpus[end].memory.is_limited()) out->push_back(resource(ResourceKind::kMemory, end));
  }
}

// Up only as far as append_path() goes, but over links without a limit of their rate, too.
std::int64_t Machine::latency_ns(RankId src, RankId dst) const {
  if (src == dst) return 0;
  if (same_domain(src, dst)) return gpus[src].link.latency_ns;
  const Port& from = ports[gpus[src].port];
  const Port& to = ports[gpus[dst].port];
  std::int64_t sum = from.out.latency_ns + to.in.latency_ns;
  if (from.leaf == to.leaf) return sum;
  const Leaf& up = leaves[from.leaf];
  const Leaf& down = leaves[to.leaf];
  sum += up.up.latency_ns + down.down.latency_ns;
  if (up.pod != down.pod) sum += pods[up.pod].up.latency_ns + pods[down.pod].down.latency_ns;
  return sum;
}

std::uint64_t Machine::digest() const {
  Hasher hasher;
  // Domains follow from what the GPUs say, and names decide nothing: neither is hashed.
  hasher.add(rail_isolated ? 1 : 0);
  for (const Node& node : nodes) hasher.add(node.block);
  for (const Gpu& gpu : gpus) {
    for (const std::int32_t value : {gpu.node.value(), gpu.domain.value(), gpu.port.value()}) hasher.add(value);
    add(gpu.link, &hasher);
    add(gpu.pcie, &hasher);
    add(gpu.memory, &hasher);
  }
  for (const Port& port : ports) {
    for (const std::int32_t value : {port.node.value(), port.rail.value(), port.leaf.value()}) hasher.add(value);
    add(port.out, &hasher);
    add(port.in, &hasher);
  }
  for (const Leaf& leaf : leaves) {
    for (const std::int32_t value : {leaf.pod.value(), leaf.block, leaf.rail.value()}) hasher.add(value);
    add(leaf.up, &hasher);
    add(leaf.down, &hasher);
  }
  for (const Pod& pod : pods) {
    add(pod.up, &hasher);
    add(pod.down, &hasher);
  }
  return hasher.digest();
}

}  // namespace reshard
