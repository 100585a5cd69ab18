// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "src/exec/program.h"
#include "src/plan/windows.h"

namespace reshard {

/// Where the window of a draft begins: nowhere yet, but not at null, which stands for a fill. Only distances from it
/// mean anything.
inline std::byte* window_begin() {
  return reinterpret_cast<std::byte*>(std::uintptr_t{1} << 12);
}

/// A message before the staging it needs is known: the wire side of its copies counts from window_begin().
struct DraftMessage {
  WindowOrder order;
  std::int32_t hop = 0;      ///< index in the route
  std::int32_t parent = -1;  ///< index of the hop that brings the bytes
  bool feeds_sends = false;  ///< of a receive: this rank sends it on
  bool is_staged = false;    ///< does not go straight from or to a tensor, even where it could
  CopyList copies;           ///< of the step, until they are a batch
  MessageStep step;
};

/// Tens of thousands of them: a vector that grows would leave as much memory again behind, which the heap then keeps.
using DraftMessages = std::deque<DraftMessage>;

/// Puts the messages of both directions into lanes, in the plan's one order, and gives each its memory: the tensor
/// itself, the next slot of its lane's ring, or the slot that it came to. The copies become batches of the program's
/// copier. RESHARD_ERR_OUT_OF_MEMORY.
Status place_messages(const Plan& plan, DraftMessages sends, DraftMessages receives, Program* program);

}  // namespace reshard
