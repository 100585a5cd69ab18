// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "topology/machine.h"

namespace reshard::bounds {

/// What the ports of domains can do, as far as bounds ask.
class DomainPorts {
 public:
  explicit DomainPorts(const Machine& machine);  ///< must outlive this

  /// Bytes per second of all ports of a domain, of each direction.
  std::int64_t in(std::int32_t domain) const;
  std::int64_t out(std::int32_t domain) const;
  /// What other domains' ports send on a rail: no more than that comes into this one by it. GPUs of another domain may
  /// share a port of this one, and what they send to it comes in by the same port.
  std::int64_t sent_by_others(std::int32_t domain, std::int32_t rail) const;
  /// What comes into a domain by a port: no more than others send, and so nothing where nobody reaches it. A port that
  /// counted for more would make LB1 and LB7 smaller than they are: in a machine of one domain nothing ever comes over
  /// the network, whatever its ports could take.
  std::int64_t reached_in(std::int32_t domain, std::int32_t port) const;
  /// For messages: its number and its nodes.
  std::string name(std::int32_t domain) const;

 private:
  using Sums = std::map<std::int32_t, std::int64_t>;  // bytes per second by rail

  // Ports that can reach each other have one rail here, where rails are joined all of them.
  std::int32_t rail_of(const Machine::Port& port) const { return machine_.rail_isolated ? port.rail.value() : 0; }

  const Machine& machine_;
  Sums sent_by_all_;
  std::vector<Sums> sent_by_domain_;  // of ports that no other domain shares
};

}  // namespace reshard::bounds
