// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "src/plan/bounds/bounds.h"

namespace reshard::bounds {

/// Keeps the place where a bound is largest. A rate of 0 is no limit, and bounds nothing.
class Largest {
 public:
  explicit Largest(std::string name) { bound_.name = std::move(name); }
  template <typename Describe>
  void offer(std::int64_t bytes, std::int64_t bytes_per_s, const Describe& describe) {
    if (bytes == 0 || bytes_per_s == 0) return;
    const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_s);
    if (seconds <= bound_.seconds) return;
    bound_.seconds = seconds;
    bound_.resource = describe();
  }
  Bound take() { return std::move(bound_); }

 private:
  Bound bound_;
};

}  // namespace reshard::bounds
