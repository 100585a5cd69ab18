// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The least that a byte pays to come to all that lack it, exact where these are few: by the recursion of Dreyfus and
// Wagner over sets of receivers, where a tree may part at any rank. Of many receivers a few are served so, and each
// other pays for being entered, wherever from.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/cheapest_ways.h"
#include "src/plan/routing/audience.h"

namespace reshard::bounds {

class FewReceivers {
 public:
  static constexpr std::size_t kMost = 3;  ///< that are served by the cheapest tree

  /// Both must outlive it.
  FewReceivers(const routing::Fabric& fabric, const routing::WayPrices& ways);

  /// Never above the price of the cheapest tree, and its price where no more than kMost ranks lack the byte.
  std::uint64_t least(const routing::Audience& audience);

  /// From the nearest of some ranks to every other.
  CheapestWays::ByRank ways_from(std::span<const std::int32_t> ranks);

 private:
  std::uint64_t least_in(RankId rank) const;
  std::vector<RankId> choose(const routing::Audience& audience);
  std::uint64_t tree(const routing::Audience& audience, const std::vector<RankId>& receivers);

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  CheapestWays cheapest_;
  CheapestWays::ByRank discount_;             // of receivers that pay apart; zeros between calls
  std::vector<CheapestWays::ByRank> to_set_;  // from each rank to a set of receivers, by the set as bits
};

}  // namespace reshard::bounds
