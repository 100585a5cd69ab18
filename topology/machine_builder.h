// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "topology/cluster.h"

namespace reshard {

/// A node that has ranks.
struct PlacedNode {
  const NodeType* type = nullptr;
  std::string name;
  std::int32_t block = 0;
  std::int32_t pod = 0;
  std::int64_t domain = 0;             ///< equal numbers share NVLink domains
  std::vector<std::int32_t> permille;  ///< of each NIC's speed; empty: all whole
};

/// The GPU of a rank: a node in the list of those that have ranks, and the GPU's index there.
struct PlacedRank {
  NodeId node{0};
  std::int32_t gpu = 0;
};

/// Nothing wrong with its numbers.
Status check(const Fabric& fabric);

/// Everything of a machine but its name. @pre every type passes check, and no two ranks share a GPU
Machine build_machine(const IndexedVector<NodeId, PlacedNode>& nodes, const IndexedVector<RankId, PlacedRank>& ranks,
                      const Fabric& fabric);

}  // namespace reshard
