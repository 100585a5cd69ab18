// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/routing/audience.h"
#include "src/plan/routing/best_exits.h"
#include "src/plan/routing/detours.h"
#include "src/plan/routing/tree.h"

namespace reshard::routing {

/// Grows cheap trees: not the cheapest, which would take too long to find, but good ones from many prices, among which
/// the solver divides the bytes.
class TreeGrower {
 public:
  TreeGrower(const Fabric& fabric, const Uses& uses, const Prices& prices);

  /// To be called now and then, when prices have changed: what takes as long as looking at all ranks is done here.
  void settle(const Prices& prices);

  /// A tree for a bundle at the prices of now, as if it carried so many bytes: with many, it spreads them over what it
  /// uses. With 0 it takes the cheapest way each time.
  /// @param salt turns which of equal ways is taken
  /// Null where no way leads to some domain, unreached().
  TreePtr grow(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt);
  /// The same, going on from a part of a tree.
  TreePtr grow_on(const Audience& audience, const Tree& part, std::int64_t carried_bytes, std::uint32_t salt);
  DomainId unreached() const { return unreached_; }

  /// What a byte pays, from here on, for a hop to a rank that does not want it. A tree that carries bytes then spares
  /// such ranks for as long as others have time to spare.
  void set_relay_price(std::uint64_t price) { relay_price_ = price; }

 private:
  /// What is known of a rank in the tree that grows.
  struct Mark {
    std::uint32_t stamp = 0;
    std::int32_t arc = -1;  ///< that brings it the bytes; -1: it holds them
    std::int32_t depth = 0;
    std::int8_t inner = 0;  ///< arcs since the bytes came into the domain
    bool has = false;
    bool wants = false;
  };

  /// By which rank the bytes come into a domain, and who sends them.
  struct Entry {
    RankId rank;
    BestExits::Exit exit;
  };

  Mark& mark(RankId rank) {
    Mark& its = marks_[rank];
    if (its.stamp != stamp_) its = {stamp_, -1, 0, 0, false, false};
    return its;
  }
  bool has(RankId rank) const { return marks_[rank].stamp == stamp_ && marks_[rank].has; }
  std::uint32_t tie(std::int32_t number, std::int32_t count) const;

  TreePtr grow(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt, bool holders_domains_last);
  void begin(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt);
  bool enter(const Audience::Place& place, std::size_t num_left);
  bool take_detour(std::span<const std::int32_t> to, std::uint64_t price, std::size_t num_left);
  TreePtr take_tree();
  void open_holders(const Audience& audience);
  bool enter_all(const Audience& audience, std::vector<std::size_t> waiting);
  Entry best_entry(const Audience::Place& place);
  void serve(const Audience::Place& place);
  void relay_by_idle(const Audience::Place& place, std::size_t num_left, std::uint64_t other_out);
  void open(DomainId domain);
  void add_arc(RankId src, RankId dst);
  void add_crossing(const BestExits::Exit& exit, RankId dst);
  Offer best_haver(DomainId domain);
  std::uint64_t exit_price(RankId rank);

  const Fabric& fabric_;
  const Uses& uses_;
  OwnPrices prices_;
  BestExits exits_;
  IndexedVector<RankId, Mark> marks_;
  IndexedVector<DomainId, Offers> havers_;  // of a domain, that pass the bytes on within it
  std::vector<DomainId> used_domains_;      // whose havers_ are of this tree
  Detours detours_;
  IndexedVector<DomainId, std::uint32_t> domain_marks_;  // stamps of those in which somebody has or wants the bytes
  Tree tree_;
  std::uint64_t price_ = 0;          // of the arcs, each as it was when it was added
  std::uint64_t serving_price_ = 0;  // the most that a hop within a domain cost
  bool may_come_back_ = false;
  bool has_detour_ = false;
  int num_detours_left_ = 0;
  std::uint64_t relay_price_ = 0;
  std::uint64_t staging_price_ = 0;  // of a hop to a rank that only passes the bytes on, in the tree that grows
  std::uint32_t stamp_ = 0;
  std::uint32_t salt_ = 0;
  DomainId unreached_;
};

}  // namespace reshard::routing
