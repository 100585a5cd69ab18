// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <deque>

#include "src/exec/schedule.h"

namespace reshard {

/// A window before its lane is known.
struct DraftWindow {
  std::int32_t parent = -1;   ///< of what goes out: index of the hop that brings the bytes
  bool is_mapped = false;     ///< lent or read in place; else a message
  bool feeds_others = false;  ///< of what comes in: this rank gives it on
  WindowStep step;
};

/// Tens of thousands of them: a vector that grows would leave as much memory again behind, which the heap then keeps.
using DraftWindows = std::deque<DraftWindow>;

/// Puts the windows of both directions into lanes, in the plan's one order, gives each its slot, and joins what goes
/// out with what brings it.
void place_windows(const Plan& plan, DraftWindows out, DraftWindows in, Schedule* schedule);

}  // namespace reshard
