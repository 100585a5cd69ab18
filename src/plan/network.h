// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/plan.h"

namespace reshard {

/// The network as the choices of ranks see it: each rank has its part of the port it shares. Ranks of one port count it
/// in equal parts, so that filling ranks to a level fills ports to it too, and no stage has to know who shares what.
struct Network {
  explicit Network(const Machine& given);

  /// Bytes per second of the rank's part of its port; 0 without one.
  std::int64_t out(std::int32_t rank) const { return at(out_, rank); }
  std::int64_t in(std::int32_t rank) const { return at(in_, rank); }
  /// -1 without a port.
  std::int32_t rail(std::int32_t rank) const { return port(rank) < 0 ? -1 : at(machine.ports, port(rank)).rail; }
  std::int32_t leaf(std::int32_t rank) const { return port(rank) < 0 ? -1 : at(machine.ports, port(rank)).leaf; }
  /// The largest part of any rank; at least 1. Levels of ports are in bytes of such a part.
  std::int64_t fastest_out() const { return fastest_out_; }
  std::int64_t fastest_in() const { return fastest_in_; }
  /// A rank of the domain of `from`, but not `other`, whose port reaches the port of `to`: `from` itself if it can; -1
  /// if none can.
  std::int32_t exit_towards(std::int32_t from, std::int32_t to, std::int32_t other = -1) const;
  /// Most ranks that share one port; at least 1.
  std::int32_t most_ranks_per_port() const { return most_ranks_per_port_; }

  const Machine& machine;  ///< must outlive this

 private:
  std::int32_t port(std::int32_t rank) const { return at(machine.gpus, rank).port; }

  std::vector<std::int64_t> out_;
  std::vector<std::int64_t> in_;
  std::int64_t fastest_out_ = 1;
  std::int64_t fastest_in_ = 1;
  std::int32_t most_ranks_per_port_ = 1;
};

/// Ranks of equal links, each for itself: what a plan without a machine assumes. So the stages of routing need no
/// second way through them.
Machine unknown_machine(std::int32_t num_ranks);

/// The machine with every rank of a domain whose links are slower than their parts of ports a domain of its own: what
/// routes are chosen on where a copy from outside is quicker than one from the neighbour (shared memory between sockets
/// beside fast NICs). Nothing where there is no such domain. Only choices are made on it: paths, loads and estimates
/// are always those of the true machine.
std::optional<Machine> split_slow_domains(const Machine& machine);

}  // namespace reshard
