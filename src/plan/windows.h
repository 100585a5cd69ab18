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

/// One message along every hop of a route: fragments back to back.
struct Window {
  std::vector<Fragment> fragments;
  std::int64_t size_bytes = 0;
  std::int64_t offset_bytes = 0;  ///< in the route
  std::int32_t first_group = 0;   ///< index in Plan::groups, of the first fragment
  std::int32_t last_group = 0;    ///< of the last fragment
  std::int32_t ordinal = 0;       ///< among the route's windows with the same first_group
  std::int32_t number = 0;        ///< among the route's windows
};

/// The place of a window on a hop in the one order in which every rank sends and receives.
///
/// It is total, the same everywhere, and a window comes to a rank before it leaves it. Hence the first unfinished
/// window always has its sender's and its receiver's attention: no deadlock, with any number of slots. A window that
/// passes through staging leaves it before any other window comes in this order, so slots that hold one cannot block
/// each other. By phase (the receivers' order of groups, where they have one), then by round of the schedule, one round
/// later for every crossing of the network; within a round by shifts, so that senders do not all turn to one receiver.
///
/// The key is these in turn. Down to `shift` they say what is good for the network. The rest says which window it is,
/// so that no two are equal, and `step` puts the hops of one window into the order in which it takes them.
struct WindowOrder {
  std::int32_t phase = 0;   ///< place of the window's group in the receivers' order; 0 where rounds alone order
  std::int32_t round = 0;   ///< in which the window makes this hop: its own, and the hop's delay
  std::int32_t shift = 0;   ///< ranks from the route's first sender to its first receiver, in the circle of all
  std::int32_t src = 0;     ///< the route's first sender
  std::int64_t route = 0;   ///< place in Plan::routes
  std::int32_t number = 0;  ///< Window::number
  std::int32_t step = 0;    ///< Hop::step
  auto key() const { return std::tuple{phase, round, shift, src, route, number, step}; }
  bool operator<(const WindowOrder& other) const { return key() < other.key(); }
  bool operator==(const WindowOrder&) const = default;
};
WindowOrder window_order(const Plan& plan, std::int64_t route, const Window& window, const Hop& hop);

/// The fragments of a bundle's stream bytes [begin, end), in stream order.
std::vector<Fragment> fragments_of(const Plan& plan, std::int32_t bundle, std::int64_t begin, std::int64_t end);

/// The windows of a route, the same on all its ranks.
/// Large fragments travel alone, so that one that is contiguous in memory needs no staging; small ones share a window,
/// but not beyond the end of a group once there is enough to send, and never where open groups are limited.
/// @post fragments are in plan order, from the first group of the receivers on; every size_bytes is in [1,
/// plan.window_bytes]
std::vector<Window> windows_of(const Plan& plan, const Route& route);

/// Of all tensors of the plan, on the wire: no window can be smaller.
std::int64_t largest_element_bytes(const Plan& plan);

/// Sets window_bytes and num_slots from the staging budget. RESHARD_ERR_STAGING_TOO_SMALL below one element each way.
Status choose_windows(Plan* plan);

/// Makes windows smaller where routes are so deep, or ranks pass on to so many, that filling them would take more than
/// a hundredth of the plan's time (filling.h). It follows from machine and routes, so that all ranks make of the same
/// anew has the same. Nothing changes without a machine. @pre choose_windows, and routes that check_routes() passed
void fit_windows(Plan* plan);

}  // namespace reshard
