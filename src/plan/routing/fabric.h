// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The machine as routes see it: where each rank hangs, and what a way between two ranks costs. A way is the sum of what
// it costs to leave one rank, to enter the other, and to cross the leaves and pods between them: so the cheapest way
// into a rank, or out of a domain, is found without trying all pairs.
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/indexed_vector.h"
#include "topology/machine.h"

namespace reshard::routing {

/// Where each rank hangs. The machine must outlive it.
struct Fabric {
  explicit Fabric(const Machine& given);

  struct Rank {
    DomainId domain;
    LeafId leaf;  ///< of its port; not valid without a port
    PodId pod;    ///< of that leaf
    RailId rail;  ///< of its port where rails are isolated, counted from 0; 0 where all ports reach each other
  };

  const Machine& machine;
  IndexedVector<RankId, Rank> ranks;
  std::vector<std::int64_t> capacities;  ///< bytes per second by resource of the machine; kUnlimited

  bool has_port(RankId rank) const { return ranks[rank].leaf.valid(); }
  /// Whether the network joins the two. @pre they are of different domains
  bool reaches(RankId src, RankId dst) const {
    return has_port(src) && has_port(dst) && ranks[src].rail == ranks[dst].rail;
  }
};

/// What a byte pays on its ways: by rank for leaving and entering it over the links of its domain, and by its port;
/// memory is in both. Prices are whole numbers in any unit; kNoWay where a rank has no port.
inline constexpr std::uint64_t kNoWay = UINT64_MAX / 8;  ///< sums of a few of them do not overflow

struct WayPrices {
  /// @param price by resource of the machine; those without a limit cost nothing
  WayPrices(const Fabric& fabric, const std::vector<std::uint64_t>& price);

  IndexedVector<RankId, std::uint64_t> link_out, link_in;
  IndexedVector<RankId, std::uint64_t> port_out, port_in;
  IndexedVector<LeafId, std::uint64_t> leaf_up, leaf_down;
  IndexedVector<PodId, std::uint64_t> pod_up, pod_down;

  /// Between two ports: nothing within a leaf.
  std::uint64_t crossing(const Fabric& fabric, RankId src, RankId dst) const;
  /// Of the way of a hop; kNoWay or more where there is none. @pre src != dst
  std::uint64_t way(const Fabric& fabric, RankId src, RankId dst) const;
};

}  // namespace reshard::routing
