// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/exits.h"

namespace reshard {

/// Passages by the list of ranks on which they land first. Of a chain, and of what a neighbour gets, that is one rank;
/// of passages to each of several ranks it is all of them. Lists 0 to num_ranks - 1 are those of the single ranks.
///
/// Most of what a rank gets it has in common with others: with those that stand in the same lists, as far as these are
/// such whose passages leave by many exits. A list in which all of these ranks stand is common, too. Others are rare:
/// the few senders that bring one of the ranks a tensor which all of them hold have such a list, and so has a source
/// that is itself a destination of what it holds.
class PassageLists {
 public:
  PassageLists(const Passages& passages, std::int32_t num_ranks);

  /// The common lists in which a rank stands, ascending.
  const std::vector<std::int32_t>& common_lists_of(std::int32_t rank) const { return at(common_, rank); }
  /// The rare ones, and its own.
  const std::vector<std::int32_t>& rare_lists_of(std::int32_t rank) const { return at(rare_, rank); }
  /// The passages of a list, in their order, as indices in Passages::all.
  std::span<const std::size_t> passages_of(std::int32_t list) const {
    return {sorted_.data() + at(first_, list), sorted_.data() + at(first_, list + 1)};
  }

 private:
  std::vector<std::int64_t> count_exits(const Passages& passages) const;
  void tell_apart(const std::vector<std::vector<std::int32_t>>& lists_of_rank,
                  const std::vector<std::int64_t>& num_exits);

  std::vector<std::vector<std::int32_t>> common_, rare_;  // by rank
  std::vector<std::size_t> first_;                        // of each list in sorted_; one more entry, their number
  std::vector<std::size_t> sorted_;                       // passages by list
};

}  // namespace reshard
