// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Nobody is asked whether another way is shorter: who is in the same leaf counts among those of the pod and of the
// whole, too, with uplinks that it would not pass. Such a way is dearer than its own, so the least of all is the truth.
#include "src/plan/bounds/prices/cheapest_tails.h"

#include <algorithm>

namespace reshard::bounds {

CheapestTails::CheapestTails(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions)
    : fabric_(fabric), ways_(ways), regions_(regions) {
  for (const routing::Fabric::Rank& rank : fabric.ranks) num_rails_ = std::max(num_rails_, rank.rail + 1);
  const auto num = [&](std::size_t switches) { return switches * static_cast<std::size_t>(num_rails_); };
  leaves_.resize(num(fabric.machine.leaves.size()));
  pods_.resize(num(fabric.machine.pods.size()));
  core_.resize(num(1));
}

void CheapestTails::clear() {
  for (const std::size_t place : used_leaves_) leaves_[place] = Place();
  for (const std::size_t place : used_pods_) pods_[place] = Place();
  std::fill(core_.begin(), core_.end(), Place());
  used_leaves_.clear();
  used_pods_.clear();
}

void CheapestTails::Best::offer(std::uint64_t price, std::int32_t owner) {
  if (price >= second_) return;
  if (owner == owner_) {
    first_ = std::min(first_, price);
  } else if (price < first_) {
    second_ = first_;
    first_ = price;
    owner_ = owner;
  } else {
    second_ = price;
  }
}

void CheapestTails::add(RankId id, std::uint64_t before) {
  const routing::Fabric::Rank& rank = fabric_.ranks[id];
  const std::int32_t block = regions_.block[rank.domain];
  const std::int32_t region = regions_.region[rank.domain];
  const auto offer = [&](Place* place, std::uint64_t price) {
    place->by_domain.offer(price, rank.domain);
    place->by_block.offer(price, block);
    place->by_region.offer(price, region);
  };
  const std::size_t leaf = place(rank.leaf, rank);
  const std::size_t pod = place(rank.pod, rank);
  const std::uint64_t out = ways_.port_out[id] + before;
  const std::uint64_t up = out + ways_.leaf_up[rank.leaf];
  offer(&leaves_[leaf], out);
  offer(&pods_[pod], up);
  offer(&core_[static_cast<std::size_t>(rank.rail)], up + ways_.pod_up[rank.pod]);
  // Ranks come by domain, so that this leaves out nearly all that are there.
  if (used_leaves_.empty() || used_leaves_.back() != leaf) used_leaves_.push_back(leaf);
  if (used_pods_.empty() || used_pods_.back() != pod) used_pods_.push_back(pod);
}

std::size_t CheapestTails::place_of(Tier tier, RankId id) const {
  const routing::Fabric::Rank& rank = fabric_.ranks[id];
  if (tier == Tier::kCore) return static_cast<std::size_t>(rank.rail);
  return place(tier == Tier::kLeaf ? rank.leaf.value() : rank.pod.value(), rank);
}

std::uint64_t CheapestTails::over_uplinks(const routing::Fabric::Rank& to, std::uint64_t in_pod,
                                          std::uint64_t in_core) const {
  return std::min(in_pod, in_core + ways_.pod_down[to.pod]) + ways_.leaf_down[to.leaf];
}

std::uint64_t CheapestTails::from_other_domain(RankId to) const {
  const routing::Fabric::Rank& rank = fabric_.ranks[to];
  const std::int32_t own = rank.domain;
  return std::min(leaves_[place(rank.leaf, rank)].by_domain.without(own),
                  over_uplinks(rank, pods_[place(rank.pod, rank)].by_domain.without(own),
                               core_[static_cast<std::size_t>(rank.rail)].by_domain.without(own)));
}

std::uint64_t CheapestTails::from_other_block(RankId to) const {
  const routing::Fabric::Rank& rank = fabric_.ranks[to];
  const std::int32_t own = regions_.block[rank.domain];
  return over_uplinks(rank, pods_[place(rank.pod, rank)].by_block.without(own),
                      core_[static_cast<std::size_t>(rank.rail)].by_block.without(own));
}

std::uint64_t CheapestTails::from_other_region(RankId to) const {
  const routing::Fabric::Rank& rank = fabric_.ranks[to];
  const std::uint64_t core = core_[static_cast<std::size_t>(rank.rail)].by_region.without(regions_.region[rank.domain]);
  return over_uplinks(rank, routing::kNoWay, core);
}

}  // namespace reshard::bounds
