// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// For a person who waits. Reports go to standard output, so that a pipe never sees the bar.
#pragma once

#include <string>

namespace reshard::perf {

/// A progress bar on stderr, drawn only where that is a terminal; it leaves nothing behind.
class Progress {
 public:
  Progress(int num_steps, bool is_shown);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// The next step, called `label`, begins.
  void step(const std::string& label);

 private:
  int num_steps_;
  int next_step_ = 0;
  bool is_shown_;
};

}  // namespace reshard::perf
