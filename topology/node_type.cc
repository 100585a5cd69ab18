// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a node is made of, checked and put together. Everything that readers, presets and discovery bring passes
// check(), so that the code behind it need not ask again: indices name things that exist, a NIC has a speed.
#include "topology/node_type.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/arithmetic.h"
#include "src/base/at.h"

namespace reshard {

Link port_link(const NodeType::Port& port, const std::vector<std::int32_t>& permille) {
  Link sum{0, 1000, 0};
  Wide weighted = 0;
  for (std::size_t i = 0; i < port.nics.size(); ++i) {
    const Link& link = port.nics[i].link;
    sum.nominal_bytes_per_s += link.nominal_bytes_per_s;
    sum.latency_ns = std::max(sum.latency_ns, link.latency_ns);
    weighted +=
        Wide{link.nominal_bytes_per_s} * link.efficiency_permille * (permille.empty() ? 1000 : permille[i]) / 1000;
  }
  // NICs of a port carry parts of the same message: rates add up, efficiency is the mean by rate, latency the worst.
  if (sum.is_limited()) {
    sum.efficiency_permille = std::max(1, static_cast<std::int32_t>(weighted / sum.nominal_bytes_per_s));
  }
  return sum;
}

std::string port_name(const NodeType::Port& port) {
  std::string name;
  for (const NodeType::Nic& nic : port.nics) name += (name.empty() ? "" : "+") + nic.name;
  return name;
}

Link memory_of_process(const Link& shared_memory) {
  return {std::min(2 * shared_memory.nominal_bytes_per_s, kMaxBytesPerS), shared_memory.efficiency_permille, 0};
}

NodeType with_processes(NodeType host, std::int32_t num_processes) {
  const auto num_ports = static_cast<std::int64_t>(host.ports.size());
  host.gpus.clear();
  for (std::int64_t i = 0; i < num_processes; ++i) {
    NodeType::Gpu process;
    process.link_group = 0;
    // Ports in turn, as evenly as they divide: of four processes 0 and 1 share the first of two.
    process.port = num_ports == 0 ? -1 : static_cast<std::int32_t>(i * num_ports / num_processes);
    process.link = host.shared_memory;
    process.memory = memory_of_process(host.shared_memory);
    host.gpus.push_back(process);
  }
  return host;
}

namespace {

Status check_link(const Link& link, const std::string& what) {
  if (link.is_limited() && (link.nominal_bytes_per_s < kLeastBytesPerS || link.nominal_bytes_per_s > kMaxBytesPerS)) {
    return invalid_argument(fmt::format("{} has {} bytes per second; give {} to {}", what, link.nominal_bytes_per_s,
                                        kLeastBytesPerS, kMaxBytesPerS));
  }
  if (link.efficiency_permille < 1 || link.efficiency_permille > 1000) {
    return invalid_argument(fmt::format("{} has an efficiency of {}/1000", what, link.efficiency_permille));
  }
  if (link.latency_ns < 0) return invalid_argument(fmt::format("{} has a latency of {} ns", what, link.latency_ns));
  return {};
}

Status check_gpu(const NodeType& node, std::size_t index) {
  const NodeType::Gpu& gpu = node.gpus[index];
  const std::string what = fmt::format("GPU {}", index);
  if (gpu.port < -1 || gpu.port >= static_cast<std::int32_t>(node.ports.size())) {
    return invalid_argument(fmt::format("{} has port {} of {}", what, gpu.port, node.ports.size()));
  }
  if (gpu.link_group < -1 || gpu.link_group >= kMaxPerNode) {
    return invalid_argument(fmt::format("{} has link group {}", what, gpu.link_group));
  }
  if (gpu.multicast_permille < 0 || gpu.multicast_permille > 1000) {
    return invalid_argument(fmt::format("{} has a multicast of {}/1000", what, gpu.multicast_permille));
  }
  RESHARD_TRY(check_link(gpu.memory, what + ": its memory"));
  RESHARD_TRY(check_link(gpu.link, what + ": its link"));
  return check_link(gpu.pcie, what + ": its PCIe");
}

}  // namespace

Status check(const NodeType& node) {
  if (node.gpus.size() > kMaxPerNode || node.ports.size() > kMaxPerNode) {
    return invalid_argument(fmt::format("a node of {} GPUs and {} ports; at most {} of each", node.gpus.size(),
                                        node.ports.size(), kMaxPerNode));
  }
  for (std::size_t i = 0; i < node.gpus.size(); ++i) RESHARD_TRY(check_gpu(node, i));
  for (std::size_t i = 0; i < node.ports.size(); ++i) {
    const NodeType::Port& port = node.ports[i];
    if (port.nics.empty() || port.nics.size() > kMaxPerNode) {
      return invalid_argument(fmt::format("port {} has {} NICs", i, port.nics.size()));
    }
    if (port.rail < 0 || port.rail >= kMaxPerNode) {
      return invalid_argument(fmt::format("port {} has rail {}", i, port.rail));
    }
    for (const NodeType::Nic& nic : port.nics) {
      RESHARD_TRY(check_link(nic.link, "NIC " + nic.name));
      if (!nic.link.is_limited()) return invalid_argument(fmt::format("NIC {} has no speed", nic.name));
    }
  }
  return check_link(node.shared_memory, "shared memory");
}

std::int32_t intern(NodeType node, std::vector<NodeType>* types) {
  const auto found = std::find(types->begin(), types->end(), node);
  const auto index = static_cast<std::int32_t>(found - types->begin());
  if (found == types->end()) types->push_back(std::move(node));
  return index;
}

}  // namespace reshard
