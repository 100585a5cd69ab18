// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What bytes do between ranks, in numbers only: no stage of planning is known here. A route is the unit in which
// windows are cut, ordered and counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

namespace reshard {

/// In place of Hop::dst: the receiver of the route, Route::receiver.
inline constexpr std::int32_t kReceiver = -2;

/// One leg of a route: all its bytes, from one rank to another.
///
/// A delay is counted in rounds of the schedule, which gives rounds to the first crossing of the network alone. A
/// window that makes that one in round r makes every hop in round r + delay. The first crossing has delay 0, the next
/// 1, and so on down the tree: a pipeline that moves on by a domain each round. Hops within a domain go with the
/// crossing that brought the bytes there; only those into staging before the next crossing go with that one, so that no
/// window waits in a slot while others pass.
struct Hop {
  std::int32_t src = -1;
  std::int32_t dst = -1;
  std::int32_t parent = -1;  ///< hop of the same route that brings the bytes to src; -1: src holds them as a source
  std::int32_t delay = 0;    ///< rounds by which it follows the route's first crossing of the network
  std::int32_t step = 0;     ///< hops before this one, from the source on; orders those of one window in one round
  bool to_staging = false;   ///< dst does not need the bytes: it keeps each window until all hops from it are sent
};

/// A tree of hops and the bytes that travel along all of it, cut into the same windows on every hop. A rank forwards
/// from its final buffers, or from staging where the hop that fed it says so.
struct Route {
  std::int64_t first_range = 0;  ///< in Plan::ranges; routes that carry the same share them
  std::int64_t first_hop = 0;    ///< in Plan::hops; parents before children
  std::int32_t num_ranges = 0;
  std::int32_t num_hops = 0;
  std::int64_t size_bytes = 0;
  std::int32_t first_group = 0;  ///< index in Plan::groups with which its receivers' order begins
  std::int32_t first_round = 0;  ///< in Plan::rounds
  std::int32_t num_rounds = 0;   ///< 0: its windows are numbered from 0 within each group
  std::int32_t receiver = -1;    ///< whom its hops mean by kReceiver; -1: none of them does
};

/// Walks over the hops of a route as they are for its receiver. They are made as they are read.
class HopIterator {
 public:
  using iterator_category = std::input_iterator_tag;  // NOLINT(readability-identifier-naming): as std has it
  using value_type = Hop;
  using difference_type = std::ptrdiff_t;  // NOLINT(readability-identifier-naming): as std has it
  using reference = Hop;                   // NOLINT(readability-identifier-naming): as std has it
  /// Keeps the hop on which -> acts.
  struct pointer {  // NOLINT(readability-identifier-naming): as std has it
    Hop hop;
    const Hop* operator->() const { return &hop; }
  };

  HopIterator(const Hop* hop, std::int32_t receiver) : hop_(hop), receiver_(receiver) {}

  Hop operator*() const {
    Hop hop = *hop_;
    if (hop.dst == kReceiver) hop.dst = receiver_;
    return hop;
  }
  pointer operator->() const { return {**this}; }
  template <typename Index>
  Hop operator[](Index i) const {
    return *(*this + i);
  }
  template <typename Index>
  HopIterator operator+(Index i) const {
    return {hop_ + static_cast<difference_type>(i), receiver_};
  }
  HopIterator& operator++() {
    ++hop_;
    return *this;
  }
  HopIterator operator++(int) {
    const HopIterator before = *this;
    ++hop_;
    return before;
  }
  bool operator==(const HopIterator& other) const { return hop_ == other.hop_; }

 private:
  const Hop* hop_;
  std::int32_t receiver_;
};

/// The routes of a plan, one after the other: millions from a thousand sources to a thousand receivers, where each pair
/// has one. Receivers that get the same bytes from the same sources, as replicas do, have routes that differ in nothing
/// but the receiver. Those are kept once, with kReceiver in their hops, and repeated for each receiver; what is read
/// says for whom.
class Routes {
 public:
  /// Routes that follow each other, here and among the distinct ones, for one receiver or for none.
  struct Run {
    std::int64_t first = 0;           ///< place of its first route
    std::int64_t first_distinct = 0;  ///< of the same route among the distinct ones
    std::int32_t receiver = -1;
  };

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;  // NOLINT(readability-identifier-naming): as std has it
    using value_type = Route;
    using difference_type = std::ptrdiff_t;  // NOLINT(readability-identifier-naming): as std has it
    using reference = Route;                 // NOLINT(readability-identifier-naming): as std has it
    using pointer = void;                    // NOLINT(readability-identifier-naming): as std has it

    Iterator(const Routes* routes, std::size_t run, std::int64_t place) : routes_(routes), run_(run), place_(place) {}
    Route operator*() const { return routes_->route_of(routes_->runs_[run_], place_); }
    Iterator& operator++() {
      if (++place_ == routes_->end_of(run_)) ++run_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return place_ == other.place_; }

   private:
    const Routes* routes_;
    std::size_t run_;
    std::int64_t place_;
  };

  std::size_t size() const { return static_cast<std::size_t>(size_); }
  bool empty() const { return size_ == 0; }
  Iterator begin() const { return {this, 0, 0}; }
  Iterator end() const { return {this, runs_.size(), size_}; }
  /// Takes a search among the runs: who reads all of them goes from begin() to end().
  Route operator[](std::size_t i) const;

  /// What is kept, each route once and all hops of one after those of the other, and where it stands among the routes.
  const std::vector<Route>& distinct() const { return distinct_; }
  const std::vector<Run>& runs() const { return runs_; }
  std::int64_t end_of(std::size_t run) const { return run + 1 < runs_.size() ? runs_[run + 1].first : size_; }
  std::int64_t size_of(std::size_t run) const { return end_of(run) - runs_[run].first; }

  /// Adds a route that stands for itself.
  void push_back(const Route& route);
  /// Keeps a route as the last of the distinct ones. It stands nowhere until it is repeated.
  void keep(const Route& route) { distinct_.push_back(route); }
  /// Adds the distinct routes [first, first + count) for this receiver.
  void repeat(std::int64_t first, std::int64_t count, std::int32_t receiver);
  /// To change what is kept; it changes wherever it is repeated.
  std::vector<Route>& distinct() { return distinct_; }
  void clear() { *this = {}; }

 private:
  Route route_of(const Run& run, std::int64_t place) const {
    Route route = distinct_[static_cast<std::size_t>(run.first_distinct + place - run.first)];
    route.receiver = run.receiver;
    return route;
  }

  std::vector<Route> distinct_;
  std::vector<Run> runs_;  // ascending
  std::int64_t size_ = 0;
};

}  // namespace reshard
