// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>

#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// A tree has to do some things somewhere: come into each block through a downlink once, leave a domain of a holder
/// once, and so on. Where is it cheapest? Domains are offered one after the other, each with what it pays for doing
/// some of these things or none; the least sum is found for everything that may have been done so far.
class EntryChoice {
 public:
  /// Things to be done, as bits.
  enum Done : std::uint8_t {
    kNothing = 0,
    kRelay = 1,         ///< somebody relays who need not have been entered
    kLeaveHolder = 2,   ///< an entry that leaves a holder's domain
    kLeaveBlock = 4,    ///< one that leaves a holder's block
    kLeaveRegion = 8,   ///< one that leaves a holder's region
    kEnterBlock = 16,   ///< one into this block, from another or from a holder's domain
    kEnterRegion = 32,  ///< one into this region, from another or from a holder's domain
  };

  void begin();
  /// One domain's choices: begin_domain(), offers, end_domain(). One of them is taken.
  void begin_domain();
  void offer(unsigned done, std::uint64_t price);
  void end_domain();
  /// This must have been done by now, or is not asked for (`is_required` false); from here on it is not done again.
  void end(Done done, bool is_required);

  /// With all of these done.
  std::uint64_t least(unsigned done) const;

 private:
  static constexpr std::size_t kNumStates = 64;

  /// The least sums by what has been done, and which of these there are, as bits.
  struct Sums {
    std::array<std::uint64_t, kNumStates> least;
    std::uint64_t known = 0;
    void offer(std::size_t state, std::uint64_t sum);
    void drop_dominated();
  };
  template <typename Visit>
  static void for_each(const Sums& sums, const Visit& visit);

  Sums sums_, next_;
};

}  // namespace reshard::bounds
