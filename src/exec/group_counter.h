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

  /// From now on a group that is complete stays open until it is released, so that its memory can be that of a later
  /// group once its bytes were taken from there.
  void hold() { is_holding_ = true; }

  void begin() {
    std::copy(work_.begin(), work_.end(), left_.begin());
    num_complete_ = 0;
    num_released_ = 0;
    advance();
  }

  /// Nobody looks at the bytes of the first `count` groups any more. @pre all of these are complete, or this rank gets
  /// nothing of them; count never falls
  void release(std::int32_t count) { num_released_ = count; }

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
  bool is_open(std::int32_t position) const { return position - num_open_ < num_closed(); }

  /// Groups from the first one on that are open no more.
  std::int32_t num_closed() const { return is_holding_ ? num_released_ : num_complete_; }

 private:
  void advance() {
    while (!all_complete() && at(left_, num_complete_) == 0) ++num_complete_;
  }

  const std::vector<std::int32_t>& work_;
  std::vector<std::int32_t> left_;
  std::int32_t num_open_;
  std::int32_t num_complete_ = 0;
  std::int32_t num_released_ = 0;
  bool is_holding_ = false;
};

}  // namespace reshard
