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

/// The list of a group that needs no message: what is moved within the rank, or read out of one peer's source. It is
/// the same from plan to plan where its tensors lie as they did and the same of them is copied.
struct GroupList {
  bool is_pull = false;
  std::size_t index = 0;     ///< in Schedule::pulls, or in Schedule::local
  std::uint64_t digest = 0;  ///< of elements, tensors, and not of addresses; in whatever order
  bool is_unchanged = true;  ///< CopyTaker::is_unchanged of all its tensors
};

/// Who takes the copies of a schedule, and says where staging slots are.
struct CopyTaker {
  /// Asked before a list of a group is made: whether the taker has it already, so that it is neither made nor handed
  /// over. Null: never.
  std::function<bool(const GroupList& list)> keeps;
  std::function<bool(std::int64_t tensor)> is_unchanged;  ///< of the plan's tensors; set where keeps is

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
