// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A receiver may have only so many groups open: its flows are ordered by position (the group), and those at a position
// may start once all flows at positions `open_limit` or more before it have ended. A flow with several receivers starts
// when all of them let it.
#include "topology/gates.h"

#include <algorithm>

#include "src/base/at.h"

namespace reshard {

Gates::Gates(const FluidTraffic& traffic)
    : traffic_(traffic), num_closed_(traffic.flows.size()), is_finished_(traffic.flows.size()) {
  if (traffic_.open_limit == 0) return;
  for (std::size_t flow = 0; flow < traffic_.flows.size(); ++flow) {
    // As many as it has receivers; each counts it down when it opens its position.
    num_closed_[flow] = traffic_.first_membership[flow + 1] - traffic_.first_membership[flow];
    for (std::int64_t m = traffic_.first_membership[flow]; m < traffic_.first_membership[flow + 1]; ++m) {
      const Membership& membership = at(traffic_.memberships, m);
      const auto receiver = static_cast<std::size_t>(membership.receiver);
      if (receiver >= receivers_.size()) receivers_.resize(receiver + 1);
      receivers_[receiver].order.push_back({membership.position, static_cast<std::int32_t>(flow)});
    }
  }
  // Stable, so that flows at one position start in the order in which the traffic names them, on every machine.
  for (Receiver& receiver : receivers_) {
    std::stable_sort(receiver.order.begin(), receiver.order.end(),
                     [](const Place& a, const Place& b) { return a.position < b.position; });
  }
}

void Gates::open_first(std::vector<std::int32_t>* started) {
  for (std::size_t flow = 0; flow < num_closed_.size(); ++flow) {
    if (num_closed_[flow] == 0) started->push_back(static_cast<std::int32_t>(flow));
  }
  for (Receiver& receiver : receivers_) advance(&receiver, started);
}

void Gates::finish(std::int32_t flow, std::vector<std::int32_t>* started) {
  if (receivers_.empty()) return;
  is_finished_[static_cast<std::size_t>(flow)] = true;
  for (std::int64_t m = at(traffic_.first_membership, flow); m < at(traffic_.first_membership, flow + 1); ++m) {
    advance(&at(receivers_, at(traffic_.memberships, m).receiver), started);
  }
}

void Gates::advance(Receiver* receiver, std::vector<std::int32_t>* started) {
  const std::vector<Place>& order = receiver->order;
  std::size_t& unfinished = receiver->first_unfinished;
  // Both cursors only go forward, so that all calls together walk each order once. Flows at positions below `end` are
  // open; a flow counts down once for each receiver that opened it, and starts at 0.
  while (unfinished < order.size() && is_finished_[static_cast<std::size_t>(order[unfinished].flow)]) ++unfinished;
  if (unfinished == order.size()) return;  // and so none is closed
  const std::int64_t end = std::int64_t{order[unfinished].position} + traffic_.open_limit;
  for (std::size_t& closed = receiver->first_closed; closed < order.size() && order[closed].position < end; ++closed) {
    if (--at(num_closed_, order[closed].flow) == 0) started->push_back(order[closed].flow);
  }
}

// The receiver with the most positions goes through them `open_limit` at a time: about so many times the traffic stops
// and starts again.
std::int64_t Gates::num_waves() const {
  std::int64_t waves = 1;
  for (const Receiver& receiver : receivers_) {
    std::int64_t positions = 0;
    for (std::size_t i = 0; i < receiver.order.size(); ++i) {
      if (i == 0 || receiver.order[i].position != receiver.order[i - 1].position) ++positions;
    }
    waves = std::max(waves, positions / traffic_.open_limit);
  }
  return waves;
}

}  // namespace reshard
