// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/base/at.h"
#include "src/layout/box.h"

namespace reshard {

/// Cuts [begin, end) of dimension `dim` into the longest intervals on which the set of active boxes is constant and
/// calls visit(interval begin, interval end, active box indices, ascending) for each, in order. `active` are indices
/// into `boxes`. One dimension of a sweep: O(n log n + sum of the sets visited).
template <typename Visit>
void for_each_slab(int dim, std::int64_t begin, std::int64_t end, const std::vector<Box>& boxes,
                   const std::vector<std::int32_t>& active, const Visit& visit) {
  struct Event {
    std::int64_t at;
    std::int32_t box;
    bool opens;
  };
  std::vector<Event> events;
  events.reserve(active.size() * 2);
  for (const std::int32_t i : active) {
    const std::int64_t from = std::max(begin, at(boxes, i).begin[dim]);
    const std::int64_t to = std::min(end, at(boxes, i).end[dim]);
    if (from >= to) continue;
    events.push_back({from, i, true});
    events.push_back({to, i, false});
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.at < b.at; });
  std::vector<std::int32_t> open;
  std::size_t next = 0;
  for (std::int64_t at = begin; at < end;) {
    for (; next < events.size() && events[next].at == at; ++next) {
      const auto place = std::lower_bound(open.begin(), open.end(), events[next].box);
      if (events[next].opens) {
        open.insert(place, events[next].box);
      } else {
        open.erase(place);
      }
    }
    const std::int64_t until = next < events.size() ? std::min(end, events[next].at) : end;
    visit(at, until, std::as_const(open));
    at = until;
  }
}

}  // namespace reshard
