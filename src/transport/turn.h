// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace reshard {

/// A lock that is given in the order in which it was asked for. Threads that each take it for one step of a long wait
/// so advance alternately; with a plain mutex the one that has it would take it again before the other wakes up.
///
/// As at a counter with tickets: lock() draws next_, and waits until serving_ shows it. All who wait are woken at each
/// turn; they are the few threads of one rank that share a communicator.
class Turn {
 public:
  void lock() {
    std::unique_lock guard(mutex_);
    const std::uint64_t mine = next_++;
    changed_.wait(guard, [&] { return serving_ == mine; });
  }
  void unlock() {
    const std::lock_guard guard(mutex_);
    ++serving_;
    if (serving_ != next_) changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ = 0;
  std::uint64_t serving_ = 0;
};

}  // namespace reshard
