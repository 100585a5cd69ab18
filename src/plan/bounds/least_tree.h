// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/bounds/cheapest_tails.h"
#include "src/plan/bounds/domain_spread.h"
#include "src/plan/bounds/entry_choice.h"
#include "src/plan/bounds/regions.h"
#include "src/plan/bounds/third_parties.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// What a byte pays at least, at given prices, on any tree that brings it from ranks that hold it to all that lack it.
/// Any other ranks may pass it on. Made once for some prices, and asked about many bundles.
class LeastTree {
 public:
  /// Both must outlive it.
  LeastTree(const routing::Fabric& fabric, const routing::WayPrices& ways);

  /// Never above the price of the cheapest tree. Not for several threads at once. @pre there is a tree
  std::uint64_t least(const routing::Audience& audience);

 private:
  using Place = routing::Audience::Place;

  /// Who sends over the network. Who relays must have been entered himself: so trees in which nobody does, and those in
  /// which somebody does, are bounded apart, and the lesser counts.
  enum class Kind : std::int8_t {
    kNoRelay,      ///< only who holds or lacks the byte
    kIdleRank,     ///< others of their domains, too: at least one
    kThirdDomain,  ///< others of any domain: at least one of a domain in which nobody holds or lacks it
  };
  enum class Role : std::int8_t { kHolder, kLacking, kIdle };

  void begin(const routing::Audience& audience);
  std::uint64_t least_of(const routing::Audience& audience, Kind kind);
  void find_senders(const routing::Audience& audience, Kind kind);
  void offer_place(const Place& place, Kind kind);
  void offer_third_parties_of_block(std::int32_t block, std::int32_t region);
  void offer_third_parties_of_region(std::int32_t region);
  std::uint64_t third_party_from_holder(std::uint64_t entered_anyhow) const;
  DomainSpread::Rank prices_of(RankId rank, bool is_entered) const;
  bool is_held(DomainId domain) const { return held_domain_[domain] == bundle_; }
  bool is_held_block(std::int32_t block) const { return held_block_[static_cast<std::size_t>(block)] == bundle_; }
  bool is_held_region(std::int32_t region) const { return held_region_[static_cast<std::size_t>(region)] == bundle_; }

  template <typename Visit>
  void for_each_rank(const Place& place, const Visit& visit) const;

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  Regions regions_;
  CheapestTails everybody_;
  ThirdParties third_parties_;

  // Of the bundle at hand; a mark with its number stands for true.
  std::int64_t bundle_ = 0;
  IndexedVector<DomainId, std::int64_t> held_domain_;
  std::vector<std::int64_t> held_block_, held_region_;
  std::vector<const Place*> places_;  // by region and block
  bool has_entry_ = false;            // some domain without a holder lacks the byte

  // Of the kind of trees at hand.
  CheapestTails some_;            // who sends, where that is not everybody
  const CheapestTails* senders_;  // either of the two
  CheapestTails in_held_;         // who sends of domains with a holder
  std::uint64_t third_party_from_holder_ = 0;  // the least to enter a third party from there
  DomainSpread spread_;
  EntryChoice choice_;
};

}  // namespace reshard::bounds
