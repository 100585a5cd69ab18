// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/cheapest_tails.h"
#include "src/plan/bounds/prices/regions.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// Who sends the bytes of a bundle over the network. Who relays must have been entered himself: so trees in which
/// nobody does, and those in which somebody does, are bounded apart, and the lesser counts.
enum class Kind : std::int8_t {
  kNoRelay,      ///< only who holds or lacks the bytes
  kIdleRank,     ///< others of their domains, too: at least one
  kThirdDomain,  ///< others of any domain: at least one of a domain in which nobody holds or lacks them
};

/// What a rank has to do with a bundle.
enum class Role : std::int8_t { kHolder, kLacking, kIdle };

/// The least that a byte pays for entering a rank over the network, by where it comes from. First senders are added,
/// then those of the holders' domains once more, with what it takes to have the bytes there before anything has come
/// over the network.
class Senders {
 public:
  /// All must outlive it. @param everybody all ranks with a port
  Senders(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions, const Held& held,
          const CheapestTails& everybody);

  void begin(Kind kind);
  /// A rank of a domain in which somebody holds or lacks the bytes. @pre it has a port
  void add(RankId rank);
  /// With third domains, a domain in which somebody holds the bytes: all blocks and regions of holders may send.
  void add_held_domain(DomainId domain);
  /// One in a holder's domain, at first without more, and then with what it pays before it has the bytes from holders.
  /// @pre it has a port
  void add_with_holders(RankId rank) { with_holders_.add(rank); }
  void add_in_held_domain(RankId rank, Role role, std::uint64_t before);

  /// From anywhere alone where the rank's domain has a holder. @pre the rank has a port, all are added
  ByFrom entry(RankId rank) const;
  /// Of the network into a rank from other domains with holders, as far as these have been added. @pre it has a port
  std::uint64_t from_holders(RankId rank) const {
    return std::min(routing::kNoWay, ways_.port_in[rank] + with_holders_.from_other_domain(rank));
  }
  const CheapestTails& from_region() const { return from_region_; }
  const CheapestTails& from_block() const { return from_block_; }
  const CheapestTails& with_holders() const { return with_holders_; }
  const CheapestTails& from_domain() const { return from_domain_; }

 private:
  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  const Regions& regions_;
  const Held& held_;
  const CheapestTails& everybody_;
  std::vector<std::vector<RankId>> of_block_, of_region_;  // the cheapest by leaf, and by pod: of all others no need
  std::vector<bool> is_block_added_, is_region_added_;
  std::vector<std::int32_t> added_blocks_, added_regions_;

  Kind kind_ = Kind::kNoRelay;
  CheapestTails concerned_;                 // of domains in which somebody holds or lacks the bytes
  CheapestTails from_region_, from_block_;  // in regions and blocks of holders
  CheapestTails with_holders_;              // in their domains
  CheapestTails from_domain_, from_idle_;   // in their domains: who holds or lacks the bytes, and others
};

}  // namespace reshard::bounds
