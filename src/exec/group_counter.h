// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/base/at.h"

namespace reshard {

/// How far the groups of a run are, by position in this rank's order.
class GroupCounter {
 public:
  /// `work` says how many copies and messages each group waits for.
  GroupCounter(const std::vector<std::int32_t>& work, std::int32_t num_open)
      : work_(work), left_(work.size()), num_open_(num_open) {}

  void begin() {
    std::copy(work_.begin(), work_.end(), left_.begin());
    num_complete_ = 0;
    advance();
  }

  void complete(std::int32_t position) {
    --at(left_, position);
    advance();
  }

  /// Copies and messages that the group still waits for.
  std::int32_t num_left(std::int32_t position) const { return at(left_, position); }

  /// Groups from the first one on that are complete.
  std::int32_t num_complete() const { return num_complete_; }
  bool all_complete() const { return num_complete_ == static_cast<std::int32_t>(left_.size()); }

  /// Whether bytes of a group may be accepted.
  bool is_open(std::int32_t position) const { return position < num_complete_ + num_open_; }

 private:
  void advance() {
    while (!all_complete() && at(left_, num_complete_) == 0) ++num_complete_;
  }

  const std::vector<std::int32_t>& work_;
  std::vector<std::int32_t> left_;
  std::int32_t num_open_;
  std::int32_t num_complete_ = 0;
};

}  // namespace reshard
