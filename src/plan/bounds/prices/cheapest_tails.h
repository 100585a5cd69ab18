// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/regions.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// From where a domain is entered over the network.
enum class From : std::int8_t {
  kAnywhere,        ///< from any other domain
  kOtherBlock,      ///< from another block, or as kHolder or kIdleWithHolder
  kOtherRegion,     ///< from another region, or as these two
  kHolderRegion,    ///< into a region of no holder, from one of a holder
  kHolderBlock,     ///< into a block of no holder, from one of a holder
  kHolder,          ///< from a holder's domain, from a rank there that holds or lacks the bytes
  kIdleWithHolder,  ///< from another rank there
};
inline constexpr std::size_t kNumFroms = 7;
using ByFrom = std::array<std::uint64_t, kNumFroms>;

/// The least that a byte pays from some set of ranks to a port, the port's own price left out.
class CheapestTails {
 public:
  /// All must outlive it.
  CheapestTails(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions);

  void clear();
  /// A rank that may send, if a byte pays so much more before it is there. @pre it has a port
  void add(RankId rank, std::uint64_t before = 0);

  /// From ranks of other domains than the rank's own. kNoWay or more: from nobody. @pre it has a port
  std::uint64_t from_other_domain(RankId to) const;
  std::uint64_t from_other_block(RankId to) const;
  std::uint64_t from_other_region(RankId to) const;

  /// Where ports meet: a leaf, a pod or the whole, of one rail where rails are isolated.
  enum class Tier : std::int8_t { kLeaf, kPod, kCore };
  std::size_t num_places(Tier tier) const { return of(tier).size(); }
  std::size_t place_of(Tier tier, RankId rank) const;
  /// Calls visit(tier, place, price) for all places that some of the ranks reach: the least that a byte pays up to
  /// there.
  template <typename Visit>
  void for_each_place(const Visit& visit) const {
    for (const std::size_t place : used_leaves_) visit(Tier::kLeaf, place, leaves_[place].by_domain.least());
    for (const std::size_t place : used_pods_) visit(Tier::kPod, place, pods_[place].by_domain.least());
    for (std::size_t rail = 0; rail < core_.size(); ++rail) visit(Tier::kCore, rail, core_[rail].by_domain.least());
  }

 private:
  /// The cheapest, and the cheapest of another owner, to ask for the cheapest that is not one's own.
  class Best {
   public:
    void offer(std::uint64_t price, std::int32_t owner);
    std::uint64_t least() const { return first_; }
    std::uint64_t without(std::int32_t owner) const { return owner == owner_ ? second_ : first_; }

   private:
    std::uint64_t first_ = routing::kNoWay;
    std::uint64_t second_ = routing::kNoWay;
    std::int32_t owner_ = -1;
  };
  struct Place {
    Best by_domain, by_block, by_region;
  };

  const std::vector<Place>& of(Tier tier) const {
    return tier == Tier::kLeaf ? leaves_ : tier == Tier::kPod ? pods_ : core_;
  }
  std::size_t place(std::int32_t switch_id, const routing::Fabric::Rank& rank) const {
    return static_cast<std::size_t>(std::int64_t{switch_id} * num_rails_ + rank.rail);
  }
  /// Over uplinks, with what it pays before it is in the pod of the rank, or in the core.
  std::uint64_t over_uplinks(const routing::Fabric::Rank& to, std::uint64_t in_pod, std::uint64_t in_core) const;

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  const Regions& regions_;
  std::int32_t num_rails_ = 1;
  std::vector<Place> leaves_, pods_, core_;
  std::vector<std::size_t> used_leaves_, used_pods_;
};

}  // namespace reshard::bounds
