// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <functional>

#include "kernels/copy_list.h"
#include "src/exec/bound_schedule.h"

namespace reshard {

/// A window of a schedule with memory: what has to be copied for it on this rank.
struct WindowCopies {
  bool is_out = false;
  StepId id;
  std::byte* data = nullptr;  ///< of a message: where it leaves from or comes to; null where it is read in place
  CopyList copies;            ///< pack, unpack, or the copy out of the peer; empty: none is needed
};

/// Who takes the copies of a schedule, and says where staging slots are.
struct CopyTaker {
  std::function<void(std::size_t index, CopyList copies)> local;  ///< by index in Schedule::local
  std::function<void(std::size_t index, CopyList copies)> pull;   ///< by index in Schedule::pulls
  std::function<void(WindowCopies window)> window;
  /// The slot of a message that has one: of a send out of staging (Place::kSlot) that of its feed.
  std::function<std::byte*(bool is_out, StepId id)> slot;
};

/// Expands the steps of a schedule of this plan to copies between addresses, the same for every driver. Each list is
/// handed over as soon as it is made: group by group within the rank, then pulls peer by peer, then windows route by
/// route and not in the order of their lanes.
void make_copies(const Plan& plan, const Schedule& schedule, const RankMemory& memory, const CopyTaker& taker);

}  // namespace reshard
