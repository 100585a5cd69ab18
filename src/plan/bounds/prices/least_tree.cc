// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A tree pays for the arcs into its ranks. Those into ranks of a domain are bounded domain by domain (domain_spread.h),
// with the cheapest senders there are for what comes over the network (senders.h). Taken alone, every domain would have
// its bytes from its cheapest neighbour, and nobody from a holder: so what has to be true of some domain, but not of
// each, is asked of all together (entry_choice.h). Let S be a set of domains without holders, in which somebody lacks
// the bytes. Then some arc enters S, so some domain of S has its bytes from outside. S is here all such domains, those
// in blocks or regions without holders, and those of each block and each region. Third parties are in these sets, too:
// a tree may enter one in place of a domain that lacks the bytes, and pays for that.
#include "src/plan/bounds/prices/least_tree.h"

#include <algorithm>

namespace reshard::bounds {

using routing::Audience;
using routing::kNoWay;

namespace {

constexpr unsigned kLeaveAll = EntryChoice::kLeaveHolder | EntryChoice::kLeaveBlock | EntryChoice::kLeaveRegion;
constexpr unsigned kEnterAll = EntryChoice::kEnterBlock | EntryChoice::kEnterRegion;

CheapestTails tails_of_everybody(const routing::Fabric& fabric, const routing::WayPrices& ways,
                                 const Regions& regions) {
  CheapestTails tails(fabric, ways, regions);
  for (const RankId rank : fabric.ranks.ids()) {
    if (fabric.has_port(rank)) tails.add(rank);
  }
  return tails;
}

}  // namespace

LeastTree::LeastTree(const routing::Fabric& fabric, const routing::WayPrices& ways)
    : fabric_(fabric),
      ways_(ways),
      regions_(fabric),
      everybody_(tails_of_everybody(fabric, ways, regions_)),
      third_parties_(fabric, ways, regions_, everybody_),
      held_(regions_),
      holder_exits_(fabric, ways),
      senders_(fabric, ways, regions_, held_, everybody_) {}

std::uint64_t LeastTree::least(const Audience& audience) {
  if (audience.num_lacking() == 0) return 0;
  begin(audience);
  std::uint64_t least = kNoWay;
  for (const Kind kind : {Kind::kNoRelay, Kind::kIdleRank, Kind::kThirdDomain}) {
    least = std::min(least, least_of(kind));
  }
  return std::max(least, holder_exits_.least(audience));
}

/// Each domain has the byte from its cheapest neighbour, and nothing is asked of all together.
std::uint64_t LeastTree::least_from_anywhere(const Audience& audience) {
  begin(audience);
  senders_.begin(Kind::kThirdDomain);
  std::uint64_t sum = 0;
  for (const Place* place : places_) {
    if (place->lacking.empty()) continue;
    fill_spread(*place, Kind::kThirdDomain);
    sum += spread_.least()[static_cast<std::size_t>(From::kAnywhere)];
  }
  return sum;
}

void LeastTree::begin(const Audience& audience) {
  held_.clear();
  third_parties_.begin();
  places_.clear();
  for (const Place& place : audience.places()) {
    places_.push_back(&place);
    third_parties_.exclude(place.domain);
    if (!place.holders.empty()) held_.add(place.domain);
  }
  required_ = 0;
  for (const Place* place : places_) {
    if (!place->holders.empty()) continue;
    required_ |= EntryChoice::kLeaveHolder;
    if (!held_.block_of(place->domain)) required_ |= EntryChoice::kLeaveBlock;
    if (!held_.region_of(place->domain)) required_ |= EntryChoice::kLeaveRegion;
  }
  relevant_ = EntryChoice::kRelay | EntryChoice::kLeaveHolder | required_;
  if (regions_.num_blocks > 1) relevant_ |= EntryChoice::kEnterBlock;
  if (regions_.num_regions > 1) relevant_ |= EntryChoice::kEnterRegion;
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

std::uint64_t LeastTree::least_of(Kind kind) {
  add_senders(kind);
  if (kind == Kind::kThirdDomain) find_third_parties();
  choice_.begin();
  bool is_block_entered = false;
  bool is_region_entered = false;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Place& place = *places_[i];
    offer_place(place, kind);
    is_block_entered = is_block_entered || place.holders.empty();
    is_region_entered = is_region_entered || place.holders.empty();
    const std::int32_t block = regions_.block[place.domain];
    const std::int32_t region = regions_.region[place.domain];
    const bool is_last = i + 1 == places_.size();
    if (is_last || regions_.block[places_[i + 1]->domain] != block) {
      if (is_block_entered && kind == Kind::kThirdDomain) offer_third_parties_of_block(place);
      if ((relevant_ & EntryChoice::kEnterBlock) != 0) choice_.end(EntryChoice::kEnterBlock, is_block_entered);
      is_block_entered = false;
    }
    if (is_last || regions_.region[places_[i + 1]->domain] != region) {
      if (is_region_entered && kind == Kind::kThirdDomain) offer_third_parties_of_region(place);
      if ((relevant_ & EntryChoice::kEnterRegion) != 0) choice_.end(EntryChoice::kEnterRegion, is_region_entered);
      is_region_entered = false;
    }
  }
  if (kind == Kind::kThirdDomain) {
    choice_.begin_domain();
    offer(EntryChoice::kNothing, 0);
    offer_third_parties(EntryChoice::kRelay, third_party_);
    choice_.end_domain();
  }
  unsigned required = required_;
  if (kind != Kind::kNoRelay) required |= EntryChoice::kRelay;
  if (kind == Kind::kThirdDomain) required |= EntryChoice::kLeaveHolder;  // it is entered
  return choice_.least(required);
}

void LeastTree::add_senders(Kind kind) {
  senders_.begin(kind);
  for (const Place* place : places_) {
    if (kind == Kind::kThirdDomain) {
      if (!place->holders.empty()) senders_.add_held_domain(place->domain);
      continue;
    }
    for_each_rank(*place, [&](RankId rank, Role role) {
      if (fabric_.has_port(rank) && (role != Role::kIdle || kind == Kind::kIdleRank)) senders_.add(rank);
    });
  }
  for (const Place* place : places_) {
    if (place->holders.empty()) continue;
    for_each_rank(*place, [&](RankId rank, Role role) {
      if (fabric_.has_port(rank) && (role != Role::kIdle || kind != Kind::kNoRelay)) senders_.add_with_holders(rank);
    });
  }
  for (const Place* place : places_) {
    if (!place->holders.empty()) add_senders_of_held_domain(*place, kind);
  }
}

/// The first to send to a domain without a holder has the byte from its own domain or from another with a holder, if it
/// does not hold it. Then its domain pays for that.
void LeastTree::add_senders_of_held_domain(const Place& place, Kind kind) {
  fill_spread(place, kind);
  const std::uint64_t least = spread_.least()[static_cast<std::size_t>(From::kAnywhere)];
  std::size_t num_lacking = 0;
  for_each_rank(place, [&](RankId rank, Role role) {
    const std::size_t index = num_lacking;
    num_lacking += role == Role::kLacking ? 1 : 0;
    if (!fabric_.has_port(rank) || (role == Role::kIdle && kind == Kind::kNoRelay)) return;
    std::uint64_t first = least;
    if (role == Role::kLacking) first = spread_.least_with_first(index, senders_.from_holders(rank));
    if (role == Role::kIdle) first = spread_.least_with_first(prices_of(rank), senders_.from_holders(rank));
    if (first < kNoWay) senders_.add_in_held_domain(rank, role, first - least);
  });
}

DomainSpread::Rank LeastTree::prices_of(RankId rank) const {
  DomainSpread::Rank out{ways_.link_out[rank], ways_.link_in[rank], {}};
  if (fabric_.has_port(rank)) {
    out.entry = senders_.entry(rank);
  } else {
    out.entry.fill(kNoWay);
  }
  return out;
}

void LeastTree::fill_spread(const Place& place, Kind kind) {
  spread_.clear();
  relays_.clear();
  for_each_rank(place, [&](RankId rank, Role role) {
    if (role == Role::kHolder) return spread_.add_holder(ways_.link_out[rank]);
    const DomainSpread::Rank prices = prices_of(rank);
    if (role == Role::kLacking) return spread_.add_lacking(prices);
    spread_.add_idle(prices);
    if (kind == Kind::kIdleRank && fabric_.has_port(rank)) relays_.push_back(prices);
  });
}

void LeastTree::offer_place(const Place& place, Kind kind) {
  fill_spread(place, kind);
  choice_.begin_domain();
  ByFrom least = spread_.least();
  offer_entries(place, kind, EntryChoice::kNothing, least);
  if (!relays_.empty()) {
    DomainSpread::Rank any = relays_.front();
    for (const DomainSpread::Rank& other : relays_) make_as_good(other, &any);
    spread_.add_lacking(any);
    const ByFrom with_relay = spread_.least();
    for (std::size_t f = 0; f < kNumFroms; ++f) least[f] = std::max(least[f], with_relay[f]);
    offer_entries(place, kind, EntryChoice::kRelay, least);
  }
  choice_.end_domain();
}

void LeastTree::offer_entries(const Place& place, Kind kind, unsigned done, const ByFrom& least) {
  const auto from = [&](From where) { return least[static_cast<std::size_t>(where)]; };
  offer(done, from(From::kAnywhere));
  if (!place.holders.empty()) return;
  const unsigned leave_region = held_.region_of(place.domain) ? EntryChoice::kNothing : EntryChoice::kLeaveRegion;
  const unsigned leave_block = held_.block_of(place.domain) ? EntryChoice::kNothing : EntryChoice::kLeaveBlock;
  const unsigned leave_all = EntryChoice::kLeaveHolder | leave_block | leave_region;
  offer(done | EntryChoice::kEnterBlock, from(From::kOtherBlock));
  offer(done | kEnterAll, from(From::kOtherRegion));
  if (leave_region != 0) offer(done | kEnterAll | leave_region, from(From::kHolderRegion));
  if (leave_block != 0) {
    // From another region, too: surely where nobody in this one holds the byte.
    if (leave_region == 0) offer(done | EntryChoice::kEnterBlock | leave_block, from(From::kHolderBlock));
    offer(done | kEnterAll | leave_block | leave_region, std::max(from(From::kHolderBlock), from(From::kOtherRegion)));
  }
  offer(done | kEnterAll | leave_all, from(From::kHolder));
  if (kind == Kind::kIdleRank) {
    offer(done | EntryChoice::kRelay | kEnterAll | leave_all, from(From::kIdleWithHolder));
  }
}

void LeastTree::find_third_parties() {
  using Tier = CheapestTails::Tier;
  const auto from = [&](const CheapestTails& tails, Tier tier) { return third_parties_.enter_from(tails, tier); };
  third_from_domain_ = {from(senders_.from_domain(), Tier::kLeaf), from(senders_.from_domain(), Tier::kPod),
                        from(senders_.from_domain(), Tier::kCore)};
  third_from_block_ = {kNoWay, from(senders_.from_block(), Tier::kPod), from(senders_.from_block(), Tier::kCore)};
  third_party_ = third_parties_.enter_any();
  third_with_holders_ = from(senders_.with_holders(), Tier::kLeaf);
  third_from_region_ = from(senders_.from_region(), Tier::kCore);
}

/// Entered so, and maybe from a holder's region, block or domain. Into a block without a holder a way passes uplinks of
/// leaves, and into a region without one those of pods.
void LeastTree::offer_third_parties(unsigned done, std::uint64_t price) {
  const auto also = [&](unsigned left, std::uint64_t from) { offer(done | left, std::max(price, from)); };
  also(EntryChoice::kNothing, 0);
  also(EntryChoice::kLeaveRegion, third_from_region_);
  also(EntryChoice::kLeaveBlock, third_from_block_[1]);
  also(EntryChoice::kLeaveBlock | EntryChoice::kLeaveRegion, third_from_block_[2]);
  also(EntryChoice::kLeaveHolder, third_from_domain_[0]);
  also(EntryChoice::kLeaveHolder | EntryChoice::kLeaveBlock, third_from_domain_[1]);
  also(kLeaveAll, third_from_domain_[2]);
}

/// Who enters a third party from another region enters its block from another, too.
void LeastTree::offer_third_parties_of_block(const Place& place) {
  const std::int32_t block = regions_.block[place.domain];
  std::uint64_t into_block = third_parties_.enter_block(block);
  if (held_.block_of(place.domain)) into_block = std::min(into_block, third_with_holders_);
  choice_.begin_domain();
  offer(EntryChoice::kNothing, 0);
  offer_third_parties(EntryChoice::kRelay | EntryChoice::kEnterBlock, into_block);
  offer_third_parties(EntryChoice::kRelay | kEnterAll, std::max(into_block, into_region(place)));
  choice_.end_domain();
}

void LeastTree::offer_third_parties_of_region(const Place& place) {
  choice_.begin_domain();
  offer(EntryChoice::kNothing, 0);
  offer_third_parties(EntryChoice::kRelay | EntryChoice::kEnterRegion, into_region(place));
  choice_.end_domain();
}

std::uint64_t LeastTree::into_region(const Place& place) const {
  const std::uint64_t price = third_parties_.enter_region(regions_.region[place.domain]);
  return held_.region_of(place.domain) ? std::min(price, third_with_holders_) : price;
}

}  // namespace reshard::bounds
