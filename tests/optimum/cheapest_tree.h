// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The cheapest way to bring one piece of data from those who hold it to all who want it, where anybody may pass it on:
// a directed Steiner tree, exactly, on graphs so small that trying everything takes milliseconds.
#pragma once

#include <utility>
#include <vector>

namespace reshard::optimum {

using Costs = std::vector<std::vector<double>>;  ///< [from][to], not below 0; infinite where there is no way

struct Tree {
  std::vector<std::pair<int, int>> arcs;  ///< from, to; each node is entered at most once, holders never
  double cost = 0;
};

/// By dynamic programming over subsets of `wanted`, which may be 12 at most.
Tree cheapest_by_subsets_of_wanted(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted);

/// By trying every set of ranks that only pass it on, which may be 12 at most; each with the cheapest arborescence.
Tree cheapest_by_sets_of_relays(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted);

/// Whichever of the two is quicker.
Tree cheapest_tree(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted);

}  // namespace reshard::optimum
