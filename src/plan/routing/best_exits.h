// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Who should send a byte to a rank over the network? Of those on the rank's own leaf the cheapest, or of those in its
// pod, who also pay their leaf's uplink, or of all. The three are kept in heaps, one for each leaf of its ranks, one
// for each pod of its leaves, and one of the pods: to look at all who could send, for each that receives, would make
// trees of many thousands of ranks quadratic. Ranks that share a port are one offer in the heap of their leaf, with a
// heap of their own: the price of the port is that of all of them, so that it may rise without a look at each.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "src/plan/routing/offers.h"
#include "src/plan/routing/own_prices.h"

namespace reshard::routing {

class BestExits {
 public:
  /// @param price_of what a byte pays until it has left a rank by its port; called at any time after add()
  BestExits(const Fabric& fabric, OwnPrices* prices, std::function<std::uint64_t(RankId)> price_of);

  /// Forgets all exits. Of equal ones the first in the circle of ranks from `first` on is taken.
  void begin(RankId first);
  /// One more rank that can send, or one that has become cheaper. @pre it has a port
  void add(RankId rank);

  struct Exit {
    std::uint64_t price = kNoWay;  ///< as far as the port of the receiver, which is not in it
    RankId rank;
  };
  /// The cheapest to this rank from ranks of other domains than `but`. @pre it has a port
  Exit best(RankId to, DomainId but = DomainId());

 private:
  /// Where ports meet: a leaf, a pod or the whole, of one rail where rails are isolated.
  using Place = std::int32_t;
  Place leaf_place(RankId rank) const { return fabric_.ranks[rank].leaf * num_rails_ + fabric_.ranks[rank].rail; }
  Place pod_place(RankId rank) const { return fabric_.ranks[rank].pod * num_rails_ + fabric_.ranks[rank].rail; }

  /// Heaps by place.
  struct Level {
    std::vector<Offers> heaps;
    std::vector<DomainId> domains;  ///< that all ranks of a place are of; not valid where there are several
    std::vector<Place> used;
  };

  template <typename PlaceOf>
  void size(Level* level, std::size_t num_places, const PlaceOf& place_of);
  static void clear(Level* level);
  /// Returns whether the offer is the best of its heap.
  static bool push(Level* level, Place place, const Offer& offer);
  std::uint32_t tie(RankId rank) const;
  // With what it pays up to there; none that costs `most` or more.
  Exit in_port(PortId port, DomainId but);
  Exit in_leaf(Place leaf, DomainId but, std::uint64_t most = kNoWay);
  Exit in_pod(Place pod, DomainId but, std::uint64_t most = kNoWay);
  Exit in_all(Place rail, DomainId but, std::uint64_t most = kNoWay);
  template <typename LookInto, typename UpFrom>
  Exit in_parts(Level* level, Place place, DomainId but, std::uint64_t most, const Level& parts,
                const LookInto& look_into, const UpFrom& up_from);
  template <typename DomainOf, typename Look>
  static Exit search(Level* level, Place place, DomainId but, std::uint64_t most, const DomainOf& domain_of,
                     const Look& look);

  const Fabric& fabric_;
  OwnPrices& prices_;
  std::function<std::uint64_t(RankId)> price_of_;
  std::int32_t num_rails_ = 1;
  RankId first_{0};
  IndexedVector<PortId, std::int32_t> num_of_port_;  // ranks
  Level ports_, leaves_, pods_, all_;
};

}  // namespace reshard::routing
