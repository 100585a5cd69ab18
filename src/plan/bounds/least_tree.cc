// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A tree pays for the arcs into its ranks. Those into ranks of a domain are bounded domain by domain (domain_spread.h),
// with the cheapest senders there are for what comes over the network. Taken alone, every domain would have its bytes
// from its cheapest neighbour, and nobody from a holder: so what has to be true of some domain, but not of each, is
// asked of all together (entry_choice.h). Where nobody in a block, or region, holds the byte, somebody's entry there is
// one through a downlink; and where any domain is entered, some entry leaves the domain of a holder.
#include "src/plan/bounds/least_tree.h"

#include <algorithm>

namespace reshard::bounds {

using routing::Audience;
using routing::kNoWay;

LeastTree::LeastTree(const routing::Fabric& fabric, const routing::WayPrices& ways)
    : fabric_(fabric),
      ways_(ways),
      regions_(fabric),
      everybody_([&] {
        CheapestTails tails(fabric, ways, regions_);
        for (const RankId rank : indices<RankId>(fabric.machine.num_ranks())) {
          if (fabric.has_port(rank)) tails.add(rank);
        }
        return tails;
      }()),
      third_parties_(fabric, ways, regions_, everybody_),
      held_domain_(fabric.machine.domains.size(), -1),
      held_block_(static_cast<std::size_t>(regions_.num_blocks), -1),
      held_region_(static_cast<std::size_t>(regions_.num_regions), -1),
      some_(fabric, ways, regions_),
      senders_(&everybody_),
      in_held_(fabric, ways, regions_) {}

std::uint64_t LeastTree::least(const Audience& audience) {
  if (audience.num_lacking() == 0) return 0;
  begin(audience);
  std::uint64_t least = kNoWay;
  for (const Kind kind : {Kind::kNoRelay, Kind::kIdleRank, Kind::kThirdDomain}) {
    least = std::min(least, least_of(audience, kind));
  }
  return least;
}

void LeastTree::begin(const Audience& audience) {
  ++bundle_;
  third_parties_.begin();
  places_.clear();
  has_entry_ = false;
  for (const Place& place : audience.places()) {
    places_.push_back(&place);
    third_parties_.exclude(place.domain);
    if (place.holders.empty()) {
      has_entry_ = true;
    } else {
      held_domain_[place.domain] = bundle_;
      held_block_[static_cast<std::size_t>(regions_.block[place.domain])] = bundle_;
      held_region_[static_cast<std::size_t>(regions_.region[place.domain])] = bundle_;
    }
  }
  const auto key = [&](const Place* place) {
    return std::pair(regions_.region[place->domain], regions_.block[place->domain]);
  };
  std::sort(places_.begin(), places_.end(), [&](const Place* a, const Place* b) { return key(a) < key(b); });
}

/// Calls visit(rank, role) for all ranks of the domain.
template <typename Visit>
void LeastTree::for_each_rank(const Place& place, const Visit& visit) const {
  std::size_t holder = 0;
  std::size_t lacking = 0;
  for (const std::int32_t rank : fabric_.machine.domains[place.domain].ranks) {
    Role role = Role::kIdle;
    if (holder < place.holders.size() && place.holders[holder] == rank) {
      role = Role::kHolder;
      ++holder;
    } else if (lacking < place.lacking.size() && place.lacking[lacking] == rank) {
      role = Role::kLacking;
      ++lacking;
    }
    visit(RankId(rank), role);
  }
}

void LeastTree::find_senders(const Audience& audience, Kind kind) {
  const bool is_everybody = kind == Kind::kThirdDomain;
  senders_ = is_everybody ? &everybody_ : &some_;
  in_held_.clear();
  some_.clear();
  for (const Place& place : audience.places()) {
    if (is_everybody && place.holders.empty()) continue;
    for_each_rank(place, [&](RankId rank, Role role) {
      if (!fabric_.has_port(rank) || (kind == Kind::kNoRelay && role == Role::kIdle)) return;
      if (!is_everybody) some_.add(rank);
      if (place.holders.empty()) return;
      in_held_.add(rank);
    });
  }
}

std::uint64_t LeastTree::least_of(const Audience& audience, Kind kind) {
  find_senders(audience, kind);
  if (kind == Kind::kThirdDomain) third_party_from_holder_ = third_parties_.enter_from(in_held_);
  choice_.begin();
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Place& place = *places_[i];
    offer_place(place, kind);
    const std::int32_t block = regions_.block[place.domain];
    const std::int32_t region = regions_.region[place.domain];
    const bool is_last = i + 1 == places_.size();
    if (is_last || regions_.block[places_[i + 1]->domain] != block) {
      if (kind == Kind::kThirdDomain) offer_third_parties_of_block(block, region);
      choice_.end(EntryChoice::kBlock, !is_held_block(block));
    }
    if (is_last || regions_.region[places_[i + 1]->domain] != region) {
      if (kind == Kind::kThirdDomain) offer_third_parties_of_region(region);
      choice_.end(EntryChoice::kRegion, !is_held_region(region));
    }
  }
  if (kind == Kind::kThirdDomain) {
    choice_.begin_domain();
    choice_.offer(EntryChoice::kNothing, 0);
    choice_.offer(EntryChoice::kRelay, third_parties_.enter_any());
    choice_.offer(EntryChoice::kRelay | EntryChoice::kLeaveHolder, third_party_from_holder(third_parties_.enter_any()));
    choice_.end_domain();
  }
  unsigned done = has_entry_ ? EntryChoice::kLeaveHolder : EntryChoice::kNothing;
  if (kind != Kind::kNoRelay) done |= EntryChoice::kRelay;
  return choice_.least(done);
}

DomainSpread::Rank LeastTree::prices_of(RankId rank, bool is_entered) const {
  DomainSpread::Rank out{ways_.link_out[rank], ways_.link_in[rank], {}};
  out.entry.fill(kNoWay);
  if (!fabric_.has_port(rank)) return out;
  const auto enter = [&](From from, std::uint64_t tail) {
    out.entry[static_cast<std::size_t>(from)] = std::min(kNoWay, ways_.port_in[rank] + tail);
  };
  enter(From::kAnywhere, senders_->from_other_domain(rank));
  if (!is_entered) return out;
  const DomainId domain = fabric_.ranks[rank].domain;
  if (!is_held_block(regions_.block[domain])) enter(From::kOtherBlock, senders_->from_other_block(rank));
  if (!is_held_region(regions_.region[domain])) enter(From::kOtherRegion, senders_->from_other_region(rank));
  enter(From::kHolder, in_held_.from_other_domain(rank));
  return out;
}

void LeastTree::offer_place(const Place& place, Kind kind) {
  const bool is_entered = place.holders.empty();
  const bool has_lacking = !place.lacking.empty();
  spread_.clear();
  std::vector<DomainSpread::Rank> exporters;
  for_each_rank(place, [&](RankId rank, Role role) {
    if (role == Role::kHolder) {
      spread_.add_holder(ways_.link_out[rank]);
      return;
    }
    const DomainSpread::Rank prices = prices_of(rank, is_entered);
    if (role == Role::kLacking) {
      spread_.add_lacking(prices);
    } else {
      spread_.add_idle(prices);
      if (kind == Kind::kIdleRank && fabric_.has_port(rank)) exporters.push_back(prices);
    }
  });
  choice_.begin_domain();
  const std::int32_t block = regions_.block[place.domain];
  const std::int32_t region = regions_.region[place.domain];
  const auto offer = [&](unsigned relay, const ByFrom& least) {
    choice_.offer(relay, least[static_cast<std::size_t>(From::kAnywhere)]);
    if (!is_entered) return;
    const unsigned in_block = is_held_block(block) ? 0 : EntryChoice::kBlock;
    const unsigned in_region = is_held_region(region) ? 0 : EntryChoice::kRegion;
    choice_.offer(relay | EntryChoice::kBlock, least[static_cast<std::size_t>(From::kOtherBlock)]);
    choice_.offer(relay | in_block | EntryChoice::kRegion, least[static_cast<std::size_t>(From::kOtherRegion)]);
    choice_.offer(relay | EntryChoice::kLeaveHolder | in_block | in_region,
                  least[static_cast<std::size_t>(From::kHolder)]);
  };
  ByFrom least{};
  if (has_lacking) least = spread_.least();
  offer(0, least);
  if (!exporters.empty()) {
    DomainSpread::Rank any = exporters.front();
    for (const DomainSpread::Rank& other : exporters) make_as_good(other, &any);
    spread_.add_lacking(any);
    offer(EntryChoice::kRelay, spread_.least());
  }
  choice_.end_domain();
}

std::uint64_t LeastTree::third_party_from_holder(std::uint64_t entered_anyhow) const {
  return std::max(entered_anyhow, third_party_from_holder_);
}

/// Who enters a third party from another region enters its block from another, too.
void LeastTree::offer_third_parties_of_block(std::int32_t block, std::int32_t region) {
  if (is_held_block(block)) return;
  choice_.begin_domain();
  choice_.offer(EntryChoice::kNothing, 0);
  const auto offer = [&](unsigned done, std::uint64_t price) {
    choice_.offer(EntryChoice::kRelay | done, price);
    choice_.offer(EntryChoice::kRelay | EntryChoice::kLeaveHolder | done, third_party_from_holder(price));
  };
  const std::uint64_t price = third_parties_.enter_block(block);
  offer(EntryChoice::kBlock, price);
  if (!is_held_region(region)) {
    offer(EntryChoice::kBlock | EntryChoice::kRegion, std::max(price, third_parties_.enter_region(region)));
  }
  choice_.end_domain();
}

void LeastTree::offer_third_parties_of_region(std::int32_t region) {
  if (is_held_region(region)) return;
  const std::uint64_t price = third_parties_.enter_region(region);
  choice_.begin_domain();
  choice_.offer(EntryChoice::kNothing, 0);
  choice_.offer(EntryChoice::kRelay | EntryChoice::kRegion, price);
  choice_.offer(EntryChoice::kRelay | EntryChoice::kRegion | EntryChoice::kLeaveHolder, third_party_from_holder(price));
  choice_.end_domain();
}

}  // namespace reshard::bounds
