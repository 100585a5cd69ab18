// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <span>
#include <vector>

#include "src/plan/routing/best_exits.h"

namespace reshard::routing {

/// Ways through a domain where nobody has or wants the bytes: what reaches others by a quicker port, or by another
/// rail, than those who have them.
class Detours {
 public:
  Detours(const Fabric& fabric, OwnPrices* prices, BestExits* exits)
      : fabric_(fabric), prices_(*prices), exits_(*exits) {}

  /// Chooses the domains that are looked at from here on: those that are cheap to pass by the prices of now.
  void choose_domains(const Prices& prices, const Uses& uses);

  struct Detour {
    RankId entry, exit;  ///< in the domain passed, may be the same
    std::uint64_t price = kNoWay;
  };
  /// The cheapest to any of some ranks of a domain, if it costs less than `most`.
  /// @param num_sharing for how many domains the way into the one passed would serve, so that each pays a part of it
  /// @param is_free(domain) whether nobody in it has or wants the bytes
  template <typename IsFree>
  Detour find(std::span<const std::int32_t> to, std::uint64_t most, std::size_t num_sharing, const IsFree& is_free) {
    Detour best;
    best.price = most;
    for (const DomainId domain : domains_) {
      if (is_free(domain)) look(domain, to, num_sharing, &best);
    }
    return best;
  }

 private:
  void look(DomainId domain, std::span<const std::int32_t> to, std::size_t num_sharing, Detour* best);

  const Fabric& fabric_;
  OwnPrices& prices_;
  BestExits& exits_;
  std::vector<DomainId> domains_;
};

}  // namespace reshard::routing
