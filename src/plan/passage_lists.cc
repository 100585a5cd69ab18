// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/passage_lists.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

namespace reshard {
namespace {

// A list with fewer exits than this part of the most that any list of the rank has may be rare. It costs each of its
// ranks a route of its own per exit, which is little beside those that they share.
constexpr std::int64_t kFewExits = 8;

/// Those of the lists that have many exits beside the one that has most.
std::vector<std::int32_t> large_ones(std::vector<std::int32_t> lists, const std::vector<std::int64_t>& num_exits) {
  std::int64_t most = 0;
  for (const std::int32_t list : lists) most = std::max(most, at(num_exits, list));
  std::erase_if(lists, [&](std::int32_t list) { return at(num_exits, list) * kFewExits < most; });
  return lists;
}

}  // namespace

/// There may be millions of passages, of few thousand lists: they are sorted by counting. A list is known by the place
/// of its ranks in Passages::landings, without a look at them, as equal lists share it (ExitChooser::item_of).
PassageLists::PassageLists(const Passages& passages, std::int32_t num_ranks) {
  std::vector<std::vector<std::int32_t>> lists_of_rank(static_cast<std::size_t>(num_ranks));  // of several ranks
  std::unordered_map<std::int64_t, std::int32_t> list_at;  // by place in Passages::landings, which they share
  std::int32_t num_lists = num_ranks;
  const auto list_of = [&](const Passage& passage) {
    const std::int32_t* landings = &at(passages.landings, passage.first_landing);
    if (passage.relation != Relation::kEach || passage.num_landings == 1) return *landings;
    const auto [known, is_new] = list_at.try_emplace(passage.first_landing, num_lists);
    if (is_new) {
      for (std::int32_t l = 0; l < passage.num_landings; ++l) at(lists_of_rank, landings[l]).push_back(num_lists);
      ++num_lists;
    }
    return known->second;
  };
  first_.resize(static_cast<std::size_t>(num_ranks) + 1);
  for (const Passage& passage : passages.all) {
    const std::int32_t list = list_of(passage);
    first_.resize(static_cast<std::size_t>(num_lists) + 1);
    ++at(first_, list + 1);
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  sorted_.resize(passages.all.size());
  std::vector<std::size_t> next(first_.begin(), first_.end() - 1);
  for (std::size_t i = 0; i < passages.all.size(); ++i) sorted_[at(next, list_of(passages.all[i]))++] = i;
  tell_apart(lists_of_rank, count_exits(passages));
}

/// By list. Exits and not passages: a route per exit is what a list costs, however many passages it has from there.
std::vector<std::int64_t> PassageLists::count_exits(const Passages& passages) const {
  std::vector<std::int64_t> num_exits;
  std::vector<std::int32_t> exits;
  for (std::size_t list = 0; list + 1 < first_.size(); ++list) {
    exits.clear();
    for (const std::size_t p : passages_of(static_cast<std::int32_t>(list))) exits.push_back(passages.all[p].exit);
    std::sort(exits.begin(), exits.end());
    num_exits.push_back(std::unique(exits.begin(), exits.end()) - exits.begin());
  }
  return num_exits;
}

/// Parts the lists of each rank into common and rare ones, as the class says.
void PassageLists::tell_apart(const std::vector<std::vector<std::int32_t>>& lists_of_rank,
                              const std::vector<std::int64_t>& num_exits) {
  /// Ranks of the same large lists.
  struct Group {
    std::int64_t num_ranks = 0;
    std::map<std::int32_t, std::int64_t> ranks_in;  // by list
  };
  std::map<std::vector<std::int32_t>, Group> groups;
  std::vector<Group*> group_of_rank;
  for (const std::vector<std::int32_t>& lists : lists_of_rank) {
    Group& group = groups[large_ones(lists, num_exits)];
    ++group.num_ranks;
    for (const std::int32_t list : lists) ++group.ranks_in[list];
    group_of_rank.push_back(&group);
  }
  common_.resize(lists_of_rank.size());
  rare_.resize(lists_of_rank.size());
  for (std::size_t rank = 0; rank < lists_of_rank.size(); ++rank) {
    const Group& group = *group_of_rank[rank];
    for (const std::int32_t list : lists_of_rank[rank]) {
      (group.ranks_in.at(list) == group.num_ranks ? common_ : rare_)[rank].push_back(list);
    }
    rare_[rank].push_back(static_cast<std::int32_t>(rank));
  }
}

}  // namespace reshard
