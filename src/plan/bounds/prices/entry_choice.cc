// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/entry_choice.h"

#include <algorithm>
#include <bit>

namespace reshard::bounds {

using routing::kNoWay;

void EntryChoice::Sums::offer(std::size_t state, std::uint64_t sum) {
  const std::uint64_t bit = std::uint64_t{1} << state;
  least[state] = (known & bit) != 0 ? std::min(least[state], sum) : sum;
  known |= bit;
}

template <typename Visit>
void EntryChoice::for_each(const Sums& sums, const Visit& visit) {
  for (std::uint64_t left = sums.known; left != 0; left &= left - 1) {
    const auto state = static_cast<std::size_t>(std::countr_zero(left));
    visit(state, sums.least[state]);
  }
}

void EntryChoice::begin() {
  sums_.known = 0;
  sums_.offer(kNothing, 0);
}

void EntryChoice::begin_domain() {
  next_.known = 0;
}

void EntryChoice::offer(unsigned done, std::uint64_t price) {
  if (price >= kNoWay) return;
  for_each(sums_, [&](std::size_t state, std::uint64_t sum) { next_.offer(state | done, sum + price); });
}

void EntryChoice::end_domain() {
  next_.drop_dominated();
  sums_.known = next_.known;
  for_each(next_, [&](std::size_t state, std::uint64_t sum) { sums_.least[state] = sum; });
}

/// Who has done more for no more may do all that who has done less may. Where prices are low few states are left.
void EntryChoice::Sums::drop_dominated() {
  for (std::size_t done = 1; done < kNumStates; done <<= 1U) {
    // Runs of `done` ones and as many zeros: the states in which it is not done.
    const std::uint64_t lacking = ~std::uint64_t{0} / ((std::uint64_t{1} << done) + 1);
    for (std::uint64_t left = known & known >> done & lacking; left != 0; left &= left - 1) {
      const auto state = static_cast<std::size_t>(std::countr_zero(left));
      if (least[state | done] <= least[state]) known &= ~(std::uint64_t{1} << state);
    }
  }
}

void EntryChoice::end(Done done, bool is_required) {
  begin_domain();
  for_each(sums_, [&](std::size_t state, std::uint64_t sum) {
    if (!is_required || (state & done) != 0) next_.offer(state & ~std::size_t{done}, sum);
  });
  end_domain();
}

std::uint64_t EntryChoice::least(unsigned done) const {
  std::uint64_t out = kNoWay;
  for_each(sums_, [&](std::size_t state, std::uint64_t sum) {
    if ((state & done) == done) out = std::min(out, sum);
  });
  return out;
}

}  // namespace reshard::bounds
