// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/range_lists.h"

#include <algorithm>

#include "src/base/hasher.h"

namespace reshard {

std::int64_t RangeLists::place_of(std::span<const Range> ranges) {
  Hasher hasher;
  for (const Range& range : ranges) {
    for (const std::int64_t value : {std::int64_t{range.bundle}, range.begin, range.end}) hasher.add(value);
  }
  const std::uint64_t hash = hasher.digest();
  const auto [begin, end] = known_.equal_range(hash);
  for (auto known = begin; known != end; ++known) {
    const auto [first, count] = known->second;
    if (count != ranges.size()) continue;
    const auto is_same = [](const Range& a, const Range& b) {
      return a.bundle == b.bundle && a.begin == b.begin && a.end == b.end;
    };
    if (std::equal(ranges.begin(), ranges.end(), plan_.ranges.begin() + first, is_same)) return first;
  }
  const std::int64_t first = std::ssize(plan_.ranges);
  plan_.ranges.insert(plan_.ranges.end(), ranges.begin(), ranges.end());
  known_.emplace(hash, std::pair{first, ranges.size()});
  return first;
}

}  // namespace reshard
