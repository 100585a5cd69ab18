// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <tuple>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Row-major elements [begin, end) of an atom of a tensor. On the wire they lie densely, in this order.
struct Fragment {
  std::int64_t tensor = -1;  ///< in plan order
  const Atom* atom = nullptr;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// One message from one rank to another: fragments back to back.
struct Window {
  std::vector<Fragment> fragments;
  std::int64_t size_bytes = 0;
  std::int32_t first_group = 0;  ///< index in Plan::groups, of the first fragment
  std::int32_t last_group = 0;   ///< of the last fragment
  std::int32_t ordinal = 0;      ///< among the pair's windows with the same first_group
};

/// A window's place in the one order in which every rank sends and receives. Because it is total and the same
/// everywhere, the first unfinished window always has its sender's and its receiver's attention: no deadlock, with
/// any number of slots. Within a group it is rounds of shifts, so that senders do not all turn to one receiver.
using WindowOrder = std::tuple<std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
WindowOrder window_order(const Plan& plan, const Window& window, std::int32_t src, std::int32_t dst);

/// The fragments of a bundle's stream bytes [begin, end), in stream order.
std::vector<Fragment> fragments_of(const Plan& plan, std::int32_t bundle, std::int64_t begin, std::int64_t end);

/// The windows between one pair of ranks, from all its flows: the same on both ends.
/// Large fragments travel alone, so that one that is contiguous in memory needs no staging; small ones share a window,
/// but not beyond the end of a group once there is enough to send.
/// @post fragments are in plan order; every size_bytes is in [1, plan.window_bytes]
std::vector<Window> windows_of(const Plan& plan, const std::vector<Flow>& flows);

/// Sets window_bytes and num_slots from the staging budget. RESHARD_ERR_STAGING_TOO_SMALL below one element each way.
Status choose_windows(Plan* plan);

}  // namespace reshard
