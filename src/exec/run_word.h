// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <atomic>
#include <cstdint>

namespace reshard {

/// The run in which a rank's memory may be read: a word in memory that the readers have mapped, too. A reader copies
/// and then looks at the word; the rank clears the word before it gives the run up and lets the caller have the memory.
/// So a reader that still finds its run there has copied what the memory held in the run. (A sequence lock with one
/// writer: set() keeps later stores of the caller behind that of the word, is() keeps the word's load behind the
/// copy's. Both change the word, if only by nothing: that orders what comes before them, too, as a fence would, and
/// unlike a fence it is seen by the thread sanitizer.)
class RunWord {
 public:
  explicit RunWord(void* memory) : word_(static_cast<std::int64_t*>(memory)) {}
  void set(std::int64_t run) const { std::atomic_ref(*word_).exchange(run, std::memory_order_seq_cst); }
  bool is(std::int64_t run) const { return std::atomic_ref(*word_).fetch_add(0, std::memory_order_acq_rel) == run; }

 private:
  std::int64_t* word_;
};

}  // namespace reshard
