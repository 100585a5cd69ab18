// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/senders.h"

#include <algorithm>

namespace reshard::bounds {

using routing::kNoWay;
using Tier = CheapestTails::Tier;

Senders::Senders(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions,
                 const Held& held, const CheapestTails& everybody)
    : fabric_(fabric),
      ways_(ways),
      regions_(regions),
      held_(held),
      everybody_(everybody),
      of_block_(static_cast<std::size_t>(regions.num_blocks)),
      of_region_(static_cast<std::size_t>(regions.num_regions)),
      is_block_added_(of_block_.size()),
      is_region_added_(of_region_.size()),
      concerned_(fabric, ways, regions),
      from_region_(concerned_),
      from_block_(concerned_),
      with_holders_(concerned_),
      from_domain_(concerned_),
      from_idle_(concerned_) {
  const auto keep_cheapest = [&](Tier tier, const auto& price_of) {
    std::vector<RankId> best(everybody.num_places(tier));
    for (const RankId rank : fabric.ranks.ids()) {
      if (!fabric.has_port(rank)) continue;
      RankId& its = best[everybody.place_of(tier, rank)];
      if (!its.valid() || price_of(rank) < price_of(its)) its = rank;
    }
    return best;
  };
  for (const RankId rank : keep_cheapest(Tier::kLeaf, [&](RankId r) { return ways.port_out[r]; })) {
    if (rank.valid()) of_block_[static_cast<std::size_t>(regions.block[fabric.ranks[rank].domain])].push_back(rank);
  }
  const auto up = [&](RankId r) { return ways.port_out[r] + ways.leaf_up[fabric.ranks[r].leaf]; };
  for (const RankId rank : keep_cheapest(Tier::kPod, up)) {
    if (rank.valid()) of_region_[static_cast<std::size_t>(regions.region[fabric.ranks[rank].domain])].push_back(rank);
  }
}

void Senders::begin(Kind kind) {
  kind_ = kind;
  for (CheapestTails* tails : {&concerned_, &from_region_, &from_block_, &with_holders_, &from_domain_, &from_idle_})
    tails->clear();
  for (const std::int32_t block : added_blocks_) is_block_added_[static_cast<std::size_t>(block)] = false;
  for (const std::int32_t region : added_regions_) is_region_added_[static_cast<std::size_t>(region)] = false;
  added_blocks_.clear();
  added_regions_.clear();
}

void Senders::add(RankId rank) {
  const DomainId domain = fabric_.ranks[rank].domain;
  concerned_.add(rank);
  if (held_.region_of(domain)) from_region_.add(rank);
  if (held_.block_of(domain)) from_block_.add(rank);
}

void Senders::add_held_domain(DomainId domain) {
  const auto add_once = [](std::int32_t id, const std::vector<std::vector<RankId>>& ranks, CheapestTails* tails,
                           std::vector<bool>* is_added, std::vector<std::int32_t>* added) {
    const auto place = static_cast<std::size_t>(id);
    if ((*is_added)[place]) return;
    (*is_added)[place] = true;
    added->push_back(id);
    for (const RankId rank : ranks[place]) tails->add(rank);
  };
  add_once(regions_.block[domain], of_block_, &from_block_, &is_block_added_, &added_blocks_);
  add_once(regions_.region[domain], of_region_, &from_region_, &is_region_added_, &added_regions_);
}

void Senders::add_in_held_domain(RankId rank, Role role, std::uint64_t before) {
  (role == Role::kIdle && kind_ == Kind::kIdleRank ? from_idle_ : from_domain_).add(rank, before);
}

ByFrom Senders::entry(RankId rank) const {
  ByFrom out;
  out.fill(kNoWay);
  const auto set = [&](From from, std::uint64_t tail) {
    out[static_cast<std::size_t>(from)] = std::min(kNoWay, ways_.port_in[rank] + tail);
  };
  const CheapestTails& all = kind_ == Kind::kThirdDomain ? everybody_ : concerned_;
  const DomainId domain = fabric_.ranks[rank].domain;
  set(From::kAnywhere, all.from_other_domain(rank));
  if (held_.domain(domain)) return out;
  const std::uint64_t with_holders = with_holders_.from_other_domain(rank);
  set(From::kHolder, from_domain_.from_other_domain(rank));
  set(From::kIdleWithHolder, from_idle_.from_other_domain(rank));
  if (regions_.num_blocks > 1) {
    set(From::kOtherBlock, std::min(with_holders, all.from_other_block(rank)));
    if (!held_.block_of(domain)) set(From::kHolderBlock, from_block_.from_other_block(rank));
  }
  if (regions_.num_regions > 1) {
    set(From::kOtherRegion, std::min(with_holders, all.from_other_region(rank)));
    if (!held_.region_of(domain)) set(From::kHolderRegion, from_region_.from_other_region(rank));
  }
  return out;
}

}  // namespace reshard::bounds
