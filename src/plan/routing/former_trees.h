// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The trees of an older plan as the start of a new one: who is lost is cut out of them, and bytes stay with the tree
// they had.
#pragma once

#include <map>
#include <tuple>
#include <vector>

#include "src/plan/plan.h"
#include "src/plan/replan/kin.h"
#include "src/plan/routing/fabric.h"
#include "src/plan/routing/solve.h"

namespace reshard::routing {

class FormerTrees {
 public:
  /// All that it is given must outlive it.
  FormerTrees(const Plan& old, const Plan& now, const Fabric& fabric);

  /// Sets what the demand's bytes had: Demand::former. Nothing where the old plan has not routed them.
  void give(Demand* demand);

 private:
  /// Bytes of an old bundle that went by one route.
  struct Piece {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t route = -1;  ///< in the old plan's routes
  };

  void collect_pieces();
  TreePtr mended(std::int64_t route, std::int32_t bundle);

  const Plan& old_;
  const Plan& now_;
  const Fabric& fabric_;
  const std::vector<bool> is_gone_;         // by rank
  const std::vector<Kin> kin_;              // by bundle of the new plan, and begin
  std::vector<std::vector<Piece>> pieces_;  // by old bundle; none where routes share bytes
  std::map<std::tuple<std::int64_t, std::int32_t, std::int32_t>, TreePtr> mended_;  // by route, sources, destinations
};

}  // namespace reshard::routing
