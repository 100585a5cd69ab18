// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/plan/routing/uses.h"

namespace reshard::routing {

/// One way for bytes to all that want them: hops, each fed by an earlier one or by a rank that holds the bytes. What a
/// route carries along, before it is known which bytes those are.
struct Tree {
  struct Arc {
    std::int32_t src = -1;
    std::int32_t dst = -1;
    std::int32_t parent = -1;  ///< arc that brings the bytes to src, an earlier one; -1: src holds them
    bool to_staging = false;   ///< dst does not want the bytes and only sends them on
    bool operator==(const Arc&) const = default;
  };
  std::vector<Arc> arcs;

  bool operator==(const Tree&) const = default;
  std::uint64_t digest() const;

  /// Calls visit(resource) for each use of each arc.
  template <typename Visit>
  void for_each_use(const Uses& uses, const Visit& visit) const {
    for (const Arc& arc : arcs) uses.for_each(RankId(arc.src), RankId(arc.dst), visit);
  }
};

/// Trees do not change once they are grown, and several choices share them.
using TreePtr = std::shared_ptr<const Tree>;

/// Whether a tree grew on from a part of it.
bool begins_with(const Tree& tree, const Tree& part);

/// Without arcs into staging from which nothing goes on.
Tree without_idle_relays(const Tree& tree);
/// The same tree where it has none.
TreePtr without_idle_relays(const TreePtr& tree);

}  // namespace reshard::routing
