// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/direct/receiver_lists.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace reshard::direct {
namespace {

// A list with fewer senders than this part of the most that any list of the rank has may be rare. It costs each of its
// ranks a route of its own per sender, which is little beside those that they share.
constexpr std::int64_t kFewSenders = 8;

/// Those of the lists that have many senders beside the one that has most.
std::vector<std::int32_t> large_ones(std::vector<std::int32_t> lists, const std::vector<std::int64_t>& num_senders) {
  std::int64_t most = 0;
  for (const std::int32_t list : lists) most = std::max(most, at(num_senders, list));
  std::erase_if(lists, [&](std::int32_t list) { return at(num_senders, list) * kFewSenders < most; });
  return lists;
}

}  // namespace

ReceiverLists::ReceiverLists(const Sendings& sendings, std::int32_t num_ranks)
    : common_(static_cast<std::size_t>(num_ranks)), rare_(static_cast<std::size_t>(num_ranks)) {
  sort_by_list(sendings);
  tell_apart(sendings.receivers, count_senders(sendings));
}

/// There may be millions of sendings to few thousand lists: they are sorted by counting.
void ReceiverLists::sort_by_list(const Sendings& sendings) {
  first_.resize(static_cast<std::size_t>(sendings.receivers.size()) + 1);
  for (const Sending& sending : sendings.all) ++at(first_, sending.receivers + 1);
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  std::vector<std::size_t> next(first_.begin(), first_.end() - 1);
  sorted_.resize(sendings.all.size());
  for (std::size_t s = 0; s < sendings.all.size(); ++s) sorted_[at(next, sendings.all[s].receivers)++] = s;
}

/// By list. Senders and not sendings: a route per sender is what a list costs, however much comes from there.
std::vector<std::int64_t> ReceiverLists::count_senders(const Sendings& sendings) const {
  std::vector<std::int64_t> num_senders;
  std::vector<std::int32_t> senders;
  for (std::int32_t list = 0; list < sendings.receivers.size(); ++list) {
    senders.clear();
    for (const std::size_t s : sendings_to(list)) senders.push_back(sendings.all[s].sender);
    std::sort(senders.begin(), senders.end());
    num_senders.push_back(std::unique(senders.begin(), senders.end()) - senders.begin());
  }
  return num_senders;
}

/// Parts the lists of each rank into common and rare ones, as the class says.
void ReceiverLists::tell_apart(const RankSets& lists, const std::vector<std::int64_t>& num_senders) {
  std::vector<std::vector<std::int32_t>> lists_of_rank(common_.size());  // of several ranks
  for (std::int32_t list = 0; list < lists.size(); ++list) {
    const std::vector<std::int32_t>& ranks = lists.ranks(list);
    for (const std::int32_t rank : ranks) at(ranks.size() == 1 ? rare_ : lists_of_rank, rank).push_back(list);
  }
  /// Ranks of the same large lists.
  struct Group {
    std::int64_t num_ranks = 0;
    std::map<std::int32_t, std::int64_t> ranks_in;  // by list
  };
  std::map<std::vector<std::int32_t>, Group> groups;
  std::vector<Group*> group_of_rank;
  for (const std::vector<std::int32_t>& mine : lists_of_rank) {
    Group& group = groups[large_ones(mine, num_senders)];
    ++group.num_ranks;
    for (const std::int32_t list : mine) ++group.ranks_in[list];
    group_of_rank.push_back(&group);
  }
  for (std::size_t rank = 0; rank < lists_of_rank.size(); ++rank) {
    const Group& group = *group_of_rank[rank];
    for (const std::int32_t list : lists_of_rank[rank]) {
      (group.ranks_in.at(list) == group.num_ranks ? common_ : rare_)[rank].push_back(list);
    }
  }
}

}  // namespace reshard::direct
