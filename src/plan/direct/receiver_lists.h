// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/direct/senders.h"

namespace reshard::direct {

/// Sendings by the list of their receivers, which is known by its id in Sendings::receivers.
///
/// This finds the ranks whose routes can be built once and repeated (Routes). Take a server of 64 replicas: rank r of
/// each replica gets the same shards from the same thousands of holders, so these 64 ranks stand together in one list
/// with many sendings, by many senders. Lists like that are large. Ranks that stand in the same large lists are a
/// group, and a list in which a whole group stands is common to its ranks: what comes by it is built for one of them
/// and holds for all.
///
/// Other lists are rare: a few senders bring one of the ranks a tensor that all of them hold, or a source is itself a
/// destination of what it holds. Were ranks grouped by all of their lists, one such exception would part replicas that
/// share all the rest; so rare lists do not tell groups apart, and each rank has routes of its own for them. Lists of a
/// single rank are among these.
class ReceiverLists {
 public:
  ReceiverLists(const Sendings& sendings, std::int32_t num_ranks);

  /// The common lists in which a rank stands, ascending.
  const std::vector<std::int32_t>& common_lists_of(std::int32_t rank) const { return at(common_, rank); }
  const std::vector<std::int32_t>& rare_lists_of(std::int32_t rank) const { return at(rare_, rank); }
  /// The sendings of a list, ascending, as indices in Sendings::all.
  std::span<const std::size_t> sendings_to(std::int32_t list) const {
    return {sorted_.data() + at(first_, list), sorted_.data() + at(first_, list + 1)};
  }

 private:
  void sort_by_list(const Sendings& sendings);
  std::vector<std::int64_t> count_senders(const Sendings& sendings) const;
  void tell_apart(const RankSets& lists, const std::vector<std::int64_t>& num_senders);

  std::vector<std::vector<std::int32_t>> common_, rare_;  // by rank
  std::vector<std::size_t> first_;                        // of each list in sorted_; one more entry, their number
  std::vector<std::size_t> sorted_;                       // sendings by list
};

}  // namespace reshard::direct
