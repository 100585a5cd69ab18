// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The least time in which any plan could move some pieces of data over a cluster: a linear program over all trees by
// which each may go, solved by CLP, to which the cheapest trees at its prices are added until none is worth it.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/optimum/small_cluster.h"

namespace reshard::optimum {

struct Piece {
  std::int64_t bytes = 0;
  std::vector<int> holders;
  std::vector<int> wanted;  ///< by ranks that do not hold it
};

/// The optimum lies between the two, which differ by `precision` unless rounds ran out.
struct Optimum {
  double at_least_seconds = 0;  ///< by the prices
  double at_most_seconds = 0;   ///< by trees that do it
  int num_rounds = 0;
  int num_trees = 0;
};

Optimum find_optimum(const SmallCluster& cluster, const std::vector<Piece>& pieces, double precision = 1e-4);

}  // namespace reshard::optimum
