// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/plan/windows.h"

namespace reshard::testing {

/// One window on one hop.
struct Leg {
  WindowOrder order;
  Route route;
  const Window* window = nullptr;
  std::int32_t hop = 0;  ///< of the route
};

/// Ranks as maps from elements to values. It runs a plan's legs one after the other in their order, and says what is
/// wrong with them; it knows of the plan what travels where, and of the layouts the blocks.
class ElementMachine {
 public:
  explicit ElementMachine(const Plan& plan);
  /// "" if every leg finds what it sends and brings what is wanted, once; else what went wrong first.
  std::string run();
  std::int32_t most_slots() const { return most_slots_; }  ///< of staging in use at once on one rank
  /// Most groups open at once on one rank: from the first of their elements that comes to stay to the last.
  std::int64_t most_open_groups() const;

 private:
  /// Values by element of one tensor; -1: not there.
  using Values = std::vector<std::int64_t>;
  struct Staged {
    Values values;
    std::int32_t sends_left = 0;
  };

  void read_layouts();
  void make_legs();
  std::string execute(const Leg& leg);
  std::string load(const Leg& leg, Values* values);
  std::string store(const Leg& leg, const Values& values);
  std::string check_result() const;
  std::vector<std::int64_t> elements_of(const Fragment& fragment) const;

  const Plan& plan_;
  std::vector<std::vector<Window>> windows_;  // by route
  std::vector<Leg> legs_;
  std::vector<std::vector<Values>> sources_;                                         // by rank and tensor in plan order
  std::vector<std::vector<Values>> received_;                                        // the same
  std::vector<std::map<const Window*, Staged>> staging_;                             // by rank
  std::int64_t now_ = 0;                                                             // legs done
  std::vector<std::map<std::int32_t, std::pair<std::int64_t, std::int64_t>>> open_;  // by rank and group: first, last
  std::int32_t most_slots_ = 0;
};

}  // namespace reshard::testing
