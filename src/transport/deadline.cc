// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <limits>

#include "src/transport/deadline.h"

namespace reshard {
namespace {

// A century: longer waits would overflow the clock's time points and are as good as infinite.
constexpr std::int64_t kLongestUs = std::int64_t{100} * 365 * 24 * 3600 * 1'000'000;

}  // namespace

Deadline::Deadline(std::int64_t timeout_us) : timeout_us_(timeout_us), infinite_(timeout_us >= kLongestUs) {
  if (!infinite_) end_ = std::chrono::steady_clock::now() + std::chrono::microseconds(timeout_us);
}

bool Deadline::expired() const {
  return remaining_us() == 0;
}

std::int64_t Deadline::remaining_us() const {
  if (infinite_) return std::numeric_limits<std::int64_t>::max();
  // Rounded up, so that a rest of less than a microsecond does not count as expired while the clock says otherwise.
  const auto left = std::chrono::ceil<std::chrono::microseconds>(end_ - std::chrono::steady_clock::now());
  return std::max<std::int64_t>(left.count(), 0);
}

}  // namespace reshard
