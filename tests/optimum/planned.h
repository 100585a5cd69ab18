// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "tests/optimum/packing.h"

namespace reshard::optimum {

/// What the library plans for some pieces, each a tensor, as seen through its C API.
struct Planned {
  double seconds = 0;        ///< of its busiest resource, counted here from the routes' hops
  double bound_seconds = 0;  ///< the library's: no plan is quicker
  std::string bound_name;
  std::string wrong;  ///< what is not as it must be; empty: nothing
};

/// @param file where the cluster is written to, for the library to read
Planned plan_pieces(const SmallCluster& cluster, const std::vector<Piece>& pieces, const std::string& file);

}  // namespace reshard::optimum
