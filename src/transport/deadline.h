// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <cstdint>

namespace reshard {

/// A moment after which a wait gives up. Made from microseconds; RESHARD_TIMEOUT_INFINITE never expires.
class Deadline {
 public:
  explicit Deadline(std::int64_t timeout_us);
  bool expired() const;
  std::int64_t remaining_us() const;  ///< 0 when expired
  std::int64_t timeout_us() const { return timeout_us_; }

 private:
  std::chrono::steady_clock::time_point end_;
  std::int64_t timeout_us_;
  bool infinite_;
};

}  // namespace reshard
