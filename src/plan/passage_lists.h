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
/// This finds the ranks whose routes can be built once and repeated (Routes). Take a server of 64 replicas: rank r of
/// each replica gets the same shards from the same thousands of holders, so these 64 ranks stand together in one list
/// with many passages, by many exits. Lists like that are large. Ranks that stand in the same large lists are a group,
/// and a list in which a whole group stands is common to its ranks: what comes by it is built for one of them and holds
/// for all.
///
/// Other lists are rare: a few senders bring one of the ranks a tensor that all of them hold, or a source is itself a
/// destination of what it holds. Were ranks grouped by all of their lists, one such exception would part replicas that
/// share all the rest; so rare lists do not tell groups apart, and each rank has routes of its own for them.
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
