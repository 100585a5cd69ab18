// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/entry_choice.h"

#include <algorithm>

namespace reshard::bounds {

using routing::kNoWay;

void EntryChoice::begin() {
  least_.fill(kNoWay);
  least_[kNothing] = 0;
}

void EntryChoice::offer(unsigned done, std::uint64_t price) {
  if (price >= kNoWay) return;
  for (std::size_t state = 0; state < kNumStates; ++state) {
    if (least_[state] >= kNoWay) continue;
    std::uint64_t& next = next_[state | done];
    next = std::min(next, least_[state] + price);
  }
}

void EntryChoice::end(Done done, bool is_required) {
  for (std::size_t state = 0; state < kNumStates; ++state) {
    if ((state & done) == 0) continue;
    std::uint64_t& without = least_[state ^ done];
    without = is_required ? least_[state] : std::min(without, least_[state]);
    least_[state] = kNoWay;
  }
}

std::uint64_t EntryChoice::least(unsigned done) const {
  std::uint64_t out = kNoWay;
  for (std::size_t state = 0; state < kNumStates; ++state) {
    if ((state & done) == done) out = std::min(out, least_[state]);
  }
  return out;
}

}  // namespace reshard::bounds
