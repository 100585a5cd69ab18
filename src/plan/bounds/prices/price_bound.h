// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What no plan can beat, at given prices. Let a byte pay p_r >= 0 for resource r, any numbers. A plan that takes T
// loads r with at most c_r * T bytes, so that all its bytes pay at most T * sum of c_r * p_r. And they pay at least
// what each bundle's bytes would on the cheapest tree. So
//
//   T >= (sum over bundles of bytes * price of the cheapest tree + sum over r of base_r * p_r) / sum over r of c_r *
//   p_r
//
// where base_r are loads that every plan has, for they are of no tree. That holds for all prices; with those at which
// no tree in use is dearer than the cheapest, it is the time of the plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/plan.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// Bytes of a bundle that have to be moved.
struct Piece {
  std::int32_t bundle = -1;
  std::int64_t bytes = 0;
};

/// No plan takes less than cost / capacity seconds.
struct PriceBound {
  __extension__ using Sum = unsigned __int128;
  Sum cost = 0;
  Sum capacity = 1;

  double seconds() const { return static_cast<double>(cost) / static_cast<double>(capacity); }
};

/// What every plan has to move.
struct Task {
  const std::vector<Bundle>& bundles;
  const DomainSets& domains;
  std::span<const Piece> pieces;
  /// By resource of the machine: what no route carries, as copies within a rank.
  const std::vector<std::int64_t>& base_loads;
};

/// The bound at these prices, by resource of the machine; each at most 2^36. Those of resources without a limit count
/// as 0.
PriceBound price_bound(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices);

/// One that is never below it and takes more time where rails are isolated: what it takes to change rails is found
/// exactly for the farthest few that lack the bytes of each bundle, on machines of up to a thousand ranks.
PriceBound thorough_price_bound(const routing::Fabric& fabric, const Task& task,
                                const std::vector<std::uint64_t>& prices);

/// One that is never above it and is found in a part of the time where many bundles have the same destinations: as if
/// anybody held the bytes outside the domains of those who lack them. It overlooks what senders pay, and
/// uplinks wherever a neighbour wants the bytes, too.
PriceBound quick_price_bound(const routing::Fabric& fabric, const Task& task, const std::vector<std::uint64_t>& prices);

}  // namespace reshard::bounds
