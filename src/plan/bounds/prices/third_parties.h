// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/cheapest_tails.h"

namespace reshard::bounds {

/// Domains in which nobody holds or lacks a byte, and which may relay it all the same: what it takes at least to enter
/// one of them. Sorted once for all bundles, so that few domains are looked at for each.
class ThirdParties {
 public:
  /// @param tails all ranks
  ThirdParties(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions,
               const CheapestTails& tails);

  /// Forgets who is concerned, so that all domains are third parties.
  void begin() { ++bundle_; }
  /// Somebody in the domain holds or lacks the byte.
  void exclude(DomainId domain) { excluded_in_[domain] = bundle_; }

  // Over all third parties, those of a block and those of a region; kNoWay: there is none that can be entered so.
  std::uint64_t enter_any() const { return cheapest(by_entry_); }
  std::uint64_t enter_from(const CheapestTails& tails,
                           CheapestTails::Tier least) const;  ///< from these ranks, up to that tier at least
  std::uint64_t enter_block(std::int32_t block) const { return cheapest(by_block_[static_cast<std::size_t>(block)]); }
  std::uint64_t enter_region(std::int32_t region) const {
    return cheapest(by_region_[static_cast<std::size_t>(region)]);
  }

 private:
  struct Entry {
    std::uint64_t price;
    DomainId domain;
  };
  using Entries = std::vector<Entry>;  // by ascending price

  std::vector<Entries>& of(CheapestTails::Tier tier) { return by_place_[static_cast<std::size_t>(tier)]; }
  const std::vector<Entries>& of(CheapestTails::Tier tier) const { return by_place_[static_cast<std::size_t>(tier)]; }
  std::uint64_t cheapest(const Entries& entries) const;

  std::int64_t bundle_ = 0;
  IndexedVector<DomainId, std::int64_t> excluded_in_;
  Entries by_entry_;
  std::vector<Entries> by_block_, by_region_;
  std::array<std::vector<Entries>, 3> by_place_;  // by tier and place: what it takes from there
};

}  // namespace reshard::bounds
