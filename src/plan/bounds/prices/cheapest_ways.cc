// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/cheapest_ways.h"

#include <algorithm>

#include "src/base/at.h"

namespace reshard::bounds {

using routing::kNoWay;

CheapestWays::CheapestWays(const routing::Fabric& fabric, const routing::WayPrices& ways)
    : fabric_(fabric), ways_(ways), of_pod_(fabric.machine.pods.size()) {
  for (const routing::Fabric::Rank& rank : fabric.ranks) num_rails_ = std::max(num_rails_, rank.rail + 1);
  const auto num_rails = static_cast<std::size_t>(num_rails_);
  of_place_.resize(fabric.machine.leaves.size() * num_rails);
  for (const RankId rank : fabric.ranks.ids()) {
    const routing::Fabric::Rank& its = fabric.ranks[rank];
    if (its.leaf.valid()) at(of_place_, its.leaf * num_rails_ + its.rail).push_back(rank);
  }
  for (const LeafId leaf : fabric.machine.leaves.ids()) of_pod_[fabric.machine.leaves[leaf].pod].push_back(leaf);
  stops(Kind::kDomain).resize(fabric.machine.domains.size());
  stops(Kind::kLeaf).resize(of_place_.size());
  stops(Kind::kPod).resize(fabric.machine.pods.size() * num_rails);
  stops(Kind::kCore).resize(num_rails);
}

std::uint64_t CheapestWays::of_rank(RankId rank, bool is_leaving, bool is_port) const {
  if (is_leaving == is_forward_) return is_port ? ways_.port_out[rank] : ways_.link_out[rank];
  return (is_port ? ways_.port_in[rank] : ways_.link_in[rank]) - (*discount_)[rank];
}

std::uint64_t CheapestWays::of_leaf(LeafId leaf, bool is_up) const {
  return is_up == is_forward_ ? ways_.leaf_up[leaf] : ways_.leaf_down[leaf];
}

std::uint64_t CheapestWays::of_pod(PodId pod, bool is_up) const {
  return is_up == is_forward_ ? ways_.pod_up[pod] : ways_.pod_down[pod];
}

void CheapestWays::spread(Direction direction, const ByRank& discount, ByRank* least) {
  is_forward_ = direction == Direction::kFrom;
  discount_ = &discount;
  least_ = least;
  for (std::vector<Stop>& all : stops_) std::fill(all.begin(), all.end(), Stop{{kNoWay, kNoWay}, {}});
  for (const RankId rank : fabric_.ranks.ids()) {
    if ((*least)[rank] < kNoWay) queue_.emplace((*least)[rank], Kind::kRank, rank, DomainId());
  }
  while (!queue_.empty()) {
    const auto [price, kind, which, from] = queue_.top();
    queue_.pop();
    if (kind == Kind::kRank) {
      if (price == (*least)[RankId(which)]) leave_rank(RankId(which), price);
      continue;
    }
    const Stop& stop = at(stops(kind), which);
    if (price != stop.least[stop.from[0] == from ? 0 : 1]) continue;  // one that is cheaper was there before
    if (kind == Kind::kDomain) leave_domain(DomainId(which), price);
    if (kind == Kind::kLeaf) leave_leaf(which, price, from);
    if (kind == Kind::kPod) leave_pod(which, price, from);
    if (kind == Kind::kCore) {
      for (const PodId pod : fabric_.machine.pods.ids()) {
        reach_switch(Kind::kPod, pod * num_rails_ + which, price + of_pod(pod, false), from);
      }
    }
  }
}

void CheapestWays::reach_rank(RankId rank, std::uint64_t price) {
  if (price >= (*least_)[rank]) return;
  (*least_)[rank] = price;
  queue_.emplace(price, Kind::kRank, rank, DomainId());
}

/// Prices come in rising order, so the first from some domain is its least.
void CheapestWays::reach_switch(Kind kind, std::int32_t place, std::uint64_t price, DomainId from) {
  Stop& stop = at(stops(kind), place);
  if (price >= stop.least[1]) return;
  if (price < stop.least[0]) {
    if (stop.from[0] != from) {
      stop.least[1] = stop.least[0];
      stop.from[1] = stop.from[0];
    }
    stop.least[0] = price;
    stop.from[0] = from;
  } else if (stop.from[0] == from) {
    return;
  } else {
    stop.least[1] = price;
    stop.from[1] = from;
  }
  queue_.emplace(price, kind, place, from);
}

void CheapestWays::leave_rank(RankId rank, std::uint64_t price) {
  const routing::Fabric::Rank& its = fabric_.ranks[rank];
  if (fabric_.machine.domains[its.domain].ranks.size() > 1) {
    reach_switch(Kind::kDomain, its.domain, price + of_rank(rank, true, false), its.domain);
  }
  if (!its.leaf.valid()) return;
  reach_switch(Kind::kLeaf, its.leaf * num_rails_ + its.rail, price + of_rank(rank, true, true), its.domain);
}

void CheapestWays::leave_domain(DomainId domain, std::uint64_t price) {
  for (const std::int32_t number : fabric_.machine.domains[domain].ranks) {
    reach_rank(RankId(number), price + of_rank(RankId(number), false, false));
  }
}

void CheapestWays::leave_leaf(std::int32_t place, std::uint64_t price, DomainId from) {
  for (const RankId rank : at(of_place_, place)) {
    if (fabric_.ranks[rank].domain != from) reach_rank(rank, price + of_rank(rank, false, true));
  }
  const LeafId leaf(place / num_rails_);
  const PodId pod = fabric_.machine.leaves[leaf].pod;
  reach_switch(Kind::kPod, pod * num_rails_ + place % num_rails_, price + of_leaf(leaf, true), from);
}

void CheapestWays::leave_pod(std::int32_t place, std::uint64_t price, DomainId from) {
  const PodId pod(place / num_rails_);
  const std::int32_t rail = place % num_rails_;
  for (const LeafId leaf : of_pod_[pod]) {
    reach_switch(Kind::kLeaf, leaf * num_rails_ + rail, price + of_leaf(leaf, false), from);
  }
  reach_switch(Kind::kCore, rail, price + of_pod(pod, true), from);
}

}  // namespace reshard::bounds
