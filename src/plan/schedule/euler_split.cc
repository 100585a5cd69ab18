// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// An Euler split without a graph search: pair the edges at each line, two and two, and follow the pairs. What is
// followed are trails on which sides alternate, so every pair has one edge on either side and a line of an odd number
// one edge over.
#include "src/plan/schedule/euler_split.h"

#include "src/base/at.h"

namespace reshard {

EulerSplit::EulerSplit(std::int32_t num_rows, std::int32_t num_columns) {
  ends_[0].unpaired.assign(static_cast<std::size_t>(num_rows), -1);
  ends_[1].unpaired.assign(static_cast<std::size_t>(num_columns), -1);
}

const std::vector<std::int16_t>& EulerSplit::sides(const std::vector<Edge>& edges,
                                                   const std::vector<std::int32_t>& chosen) {
  side_.assign(chosen.size(), -1);
  pair_up(edges, chosen);
  paint();
  return side_;
}

/// Pairs the edges that meet at a line; at most one per line is left over. Pairs joined end to end are the trails of an
/// Euler split, and every closed one is even, because it takes rows and columns in turn.
void EulerSplit::pair_up(const std::vector<Edge>& edges, const std::vector<std::int32_t>& chosen) {
  for (std::size_t end = 0; end < ends_.size(); ++end) {
    auto& [unpaired, partner] = ends_[end];
    partner.assign(chosen.size(), -1);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      std::int32_t& other = at(unpaired, at(edges, chosen[i]).ends[end]);
      if (other >= 0) {
        partner[i] = other;
        at(partner, other) = static_cast<std::int32_t>(i);
        other = -1;
      } else {
        other = static_cast<std::int32_t>(i);
      }
    }
    for (const std::int32_t edge : chosen) at(unpaired, at(edges, edge).ends[end]) = -1;
  }
}

/// The two of a pair go to different sides.
void EulerSplit::paint() {
  for (std::size_t i = 0; i < side_.size(); ++i) {
    if (side_[i] >= 0) continue;
    // Open trails of odd length begin on either side in turn, so that neither grows larger.
    side_[i] = next_side_;
    next_side_ ^= 1;
    walk(static_cast<std::int32_t>(i), 0);
    walk(static_cast<std::int32_t>(i), 1);
  }
}

/// Follows a trail from an edge, first through its partner at one end, then at the other end of that one, and so on.
void EulerSplit::walk(std::int32_t from, std::size_t end) {
  for (;;) {
    const std::int32_t next = at(ends_[end].partner, from);
    if (next < 0 || at(side_, next) >= 0) return;
    at(side_, next) = static_cast<std::int16_t>(at(side_, from) ^ 1);
    from = next;
    end ^= 1;
  }
}

}  // namespace reshard
