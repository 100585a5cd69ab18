// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "tests/unit/plan/element_oracle.h"
#include "topology/machine.h"

namespace reshard::testing {

/// What a hop loads, and how much of each the plan may use in one unit of time.
struct Limits {
  std::vector<double> capacity;
  std::function<std::vector<std::int32_t>(std::int32_t src, std::int32_t dst)> rows_of_hop;
  std::function<std::vector<std::int32_t>(std::int32_t rank)> rows_of_copy;  ///< what a rank takes from itself
};

/// By rank: whom it has the bytes from. kAbsent for holders and for ranks that the tree does not pass.
using Tree = std::vector<std::int32_t>;
inline constexpr std::int32_t kAbsent = -1;

/// All trees that bring the bytes of a need to all that want them, through any other ranks.
std::vector<Tree> all_trees(const Machine& machine, const Need& need);

/// The greatest value of the first variable under rows * x <= limits, x >= 0; negative if there is none.
/// @pre limits >= 0
double largest_first(std::vector<std::vector<double>> rows, std::vector<double> limits);

/// What each rank takes from itself: what it wants and holds.
std::map<std::int32_t, std::int64_t> copied_bytes(std::size_t num_ranks, const std::map<Need, std::int64_t>& needs);

/// Resources of the machine, and the memories of ranks: a unit of time is a second.
Limits time_limits(const Machine& machine);
/// Every rank sends, or receives, one byte in a unit of time: the time of a plan is then its busiest rank's bytes.
Limits send_limits(const Machine& machine);
Limits receive_limits(const Machine& machine);

/// The least time of any plan: bytes are divided at will over all trees of hops from holders to all that want them,
/// through any other ranks, into a domain as often as the tree likes. All trees are listed and a linear program divides
/// the bytes. Negative where no tree serves somebody. @pre few ranks: with n of them up to n^(n-1) trees
double least_time(const Machine& machine, const std::map<Need, std::int64_t>& needs, const Limits& limits);

}  // namespace reshard::testing
