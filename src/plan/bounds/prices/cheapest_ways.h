// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a byte pays at least between some ranks and all others, whoever passes it on. Exact: ways change from rail to
// rail, or into a domain and out again, as they may. In turn it looks at every rank of the machine.
//
// A way between two ranks costs what it costs to leave the one, to cross switches, and to enter the other, so switches
// and the links of domains are stops of their own, and nobody looks at all pairs. Over the network no way leads into
// the domain it comes from. So of all ways to a switch the cheapest is kept, and the cheapest from another domain.
#pragma once

#include <array>
#include <cstdint>
#include <queue>
#include <tuple>
#include <vector>

#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

class CheapestWays {
 public:
  using ByRank = IndexedVector<RankId, std::uint64_t>;

  /// Both must outlive it.
  CheapestWays(const routing::Fabric& fabric, const routing::WayPrices& ways);

  enum class Direction : std::int8_t { kFrom, kTo };
  /// @param least what a byte has paid at each rank where ways begin (or, kTo, has still to pay where they end); kNoWay
  /// at others. Becomes the least at all ranks: kNoWay where no way leads
  /// @param discount by rank, of what entering it costs
  void spread(Direction direction, const ByRank& discount, ByRank* least);

 private:
  /// What has been found of a switch: the cheapest, and the cheapest from a domain other than that one's.
  struct Stop {
    std::array<std::uint64_t, 2> least;
    std::array<DomainId, 2> from;
  };
  enum class Kind : std::int8_t { kRank, kDomain, kLeaf, kPod, kCore };
  using Entry =
      std::tuple<std::uint64_t, Kind, std::int32_t, DomainId>;  // price so far, what, which, from which domain

  void reach_rank(RankId rank, std::uint64_t price);
  void reach_switch(Kind kind, std::int32_t place, std::uint64_t price, DomainId from);
  void leave_rank(RankId rank, std::uint64_t price);
  void leave_domain(DomainId domain, std::uint64_t price);
  void leave_leaf(std::int32_t place, std::uint64_t price, DomainId from);
  void leave_pod(std::int32_t place, std::uint64_t price, DomainId from);
  std::vector<Stop>& stops(Kind kind) { return stops_[static_cast<std::size_t>(kind)]; }
  // Where ways begin, and where they go on: turned round where they are looked for from their ends.
  std::uint64_t of_rank(RankId rank, bool is_leaving, bool is_port) const;
  std::uint64_t of_leaf(LeafId leaf, bool is_up) const;
  std::uint64_t of_pod(PodId pod, bool is_up) const;

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  std::int32_t num_rails_ = 1;
  std::vector<std::vector<RankId>> of_place_;  // ranks by leaf and rail
  IndexedVector<PodId, std::vector<LeafId>> of_pod_;

  bool is_forward_ = true;
  const ByRank* discount_ = nullptr;
  ByRank* least_ = nullptr;
  std::array<std::vector<Stop>, 5> stops_;  // by Kind
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
};

}  // namespace reshard::bounds
