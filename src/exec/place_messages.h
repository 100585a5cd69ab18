// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <tuple>
#include <vector>

#include "src/exec/copies.h"
#include "src/exec/program.h"
#include "src/plan/windows.h"

namespace reshard {

/// A message before the staging it needs is known.
struct DraftMessage {
  WindowOrder order;
  std::int32_t hop = 0;      ///< index in the route
  std::int32_t parent = -1;  ///< index of the hop that brings the bytes
  MessageStep step;
  std::vector<WireCopy> copies;
};

/// Puts the messages of both directions into lanes, in the plan's one order, and gives each its memory: the tensor
/// itself, the next slot of its lane's ring, or the slot that it came to. RESHARD_ERR_OUT_OF_MEMORY.
Status place_messages(const Plan& plan, std::vector<DraftMessage> sends, std::vector<DraftMessage> receives,
                      Program* program);

}  // namespace reshard
