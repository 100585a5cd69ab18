// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "topology/machine.h"

namespace reshard {

/// What the nodes of one kind are made of.
struct NodeType {
  struct Nic {
    std::string name;
    Link link;  ///< each direction
    bool operator==(const Nic&) const = default;
  };
  /// The NICs that serve one GPU, or several, together.
  struct Port {
    std::int32_t rail = 0;
    std::vector<Nic> nics;
    bool operator==(const Port&) const = default;
  };
  struct Gpu {
    /// GPUs of one group reach each other without the network; -1: this one reaches none.
    std::int32_t link_group = -1;
    std::int32_t port = -1;  ///< -1: the network is out of reach
    Link link;
    Link pcie;
    Link memory;                          ///< reads and writes together
    std::int32_t multicast_permille = 0;  ///< Machine::Gpu::multicast_permille
    bool operator==(const Gpu&) const = default;
  };

  std::string name;
  std::vector<Gpu> gpus;  ///< none: the processes of this host share its memory, see with_processes
  std::vector<Port> ports;
  Link shared_memory;  ///< between the processes of a host without GPUs

  bool operator==(const NodeType&) const = default;
};

/// More of anything than a node has, so that a mistyped number cannot ask for gigabytes.
inline constexpr std::int32_t kMaxPerNode = 4096;
inline constexpr std::int64_t kMaxBytesPerS = 1'000'000'000'000'000;

/// What a port reaches when every NIC has only `permille[i]` of its speed; all of it where the list is empty.
/// The nominal speed stays, for the cable is what it was; the efficiency falls, but not to 0, for the rate would be
/// kUnlimited.
Link port_link(const NodeType::Port& port, const std::vector<std::int32_t>& permille);

/// "mlx5_0+mlx5_1"
std::string port_name(const NodeType::Port& port);

/// The memory of a process: a copy reads and writes each byte, at the rate at which its core copies.
Link memory_of_process(const Link& shared_memory);

/// A host without GPUs as `num_processes` that share its memory and, evenly, its ports.
NodeType with_processes(NodeType host, std::int32_t num_processes);

/// Nothing wrong with its indices and speeds.
Status check(const NodeType& node);

/// As JSON on one line, the same for equal nodes, and back.
std::string to_text(const NodeType& node);
Result<NodeType> node_from_text(const std::string& text);

/// The index of `node` in `types`, where it is added unless an equal one is there.
std::int32_t intern(NodeType node, std::vector<NodeType>* types);

}  // namespace reshard
