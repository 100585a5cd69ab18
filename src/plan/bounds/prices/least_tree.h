// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/cheapest_tails.h"
#include "src/plan/bounds/prices/domain_spread.h"
#include "src/plan/bounds/prices/entry_choice.h"
#include "src/plan/bounds/prices/holder_exits.h"
#include "src/plan/bounds/prices/regions.h"
#include "src/plan/bounds/prices/senders.h"
#include "src/plan/bounds/prices/third_parties.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// What a byte pays at least, at given prices, on any tree that brings it from ranks that hold it to all that lack it.
/// Any other ranks may pass it on. Made once for some prices, and asked about many bundles.
class LeastTree {
 public:
  /// Both must outlive it.
  LeastTree(const routing::Fabric& fabric, const routing::WayPrices& ways);
  LeastTree(const LeastTree&) = delete;  // parts know each other
  LeastTree& operator=(const LeastTree&) = delete;

  /// Never above the price of the cheapest tree. Not for several threads at once. @pre there is a tree
  std::uint64_t least(const routing::Audience& audience);
  /// The same, if from every domain in which nobody lacks the byte anybody might send it: never above least(), found
  /// sooner, and equal for all bundles that the same ranks lack and nobody in their domains holds.
  std::uint64_t least_from_anywhere(const routing::Audience& audience);

 private:
  using Place = routing::Audience::Place;

  void begin(const routing::Audience& audience);
  std::uint64_t least_of(Kind kind);
  void add_senders(Kind kind);
  void add_senders_of_held_domain(const Place& place, Kind kind);
  void offer_place(const Place& place, Kind kind);
  void offer_entries(const Place& place, Kind kind, unsigned done, const ByFrom& least);
  void offer(unsigned done, std::uint64_t price) { choice_.offer(done & relevant_, price); }
  void find_third_parties();
  void offer_third_parties(unsigned done, std::uint64_t price);
  void offer_third_parties_of_block(const Place& place);
  void offer_third_parties_of_region(const Place& place);
  std::uint64_t into_region(const Place& place) const;
  DomainSpread::Rank prices_of(RankId rank) const;
  void fill_spread(const Place& place, Kind kind);

  template <typename Visit>
  void for_each_rank(const Place& place, const Visit& visit) const;

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  Regions regions_;
  CheapestTails everybody_;
  ThirdParties third_parties_;

  // Of the bundle at hand.
  Held held_;
  std::vector<const Place*> places_;  // by region and block
  unsigned relevant_ = 0;             // things that may have to be done
  unsigned required_ = 0;

  HolderExits holder_exits_;

  // Of the kind of trees at hand.
  Senders senders_;
  DomainSpread spread_;
  std::vector<DomainSpread::Rank> relays_;  // idle ranks of a domain that may send over the network
  EntryChoice choice_;
  // The least to enter a third party from anywhere, from regions of holders, and from their blocks and domains by the
  // tier of uplinks that the way passes at least.
  std::uint64_t third_party_ = 0;
  std::uint64_t third_with_holders_ = 0;  // from their domains, whoever the sender has the bytes from
  std::uint64_t third_from_region_ = 0;
  std::array<std::uint64_t, 3> third_from_block_ = {}, third_from_domain_ = {};
};

}  // namespace reshard::bounds
