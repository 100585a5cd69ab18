// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Why there is a thread at all: rank 0 must pass on who is lost while its own thread computes for minutes and calls
// nothing of this library. All other ranks read when they are called; they have nobody who depends on them.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "src/transport/socket.h"

namespace reshard {

/// A thread that sleeps until a descriptor can be read and then calls a function: for what must happen while the
/// owner's own thread does something else. It takes no signal of the program's.
class Watch {
 public:
  /// Called on the watch's thread after news, and again after the milliseconds that it returns; -1: only after news.
  using Serve = std::function<int()>;

  /// RESHARD_ERR_TRANSPORT when the process may start no further thread. `fd` outlives the watch.
  static Result<std::unique_ptr<Watch>> start(int fd, Serve serve);
  ~Watch();  ///< after this, `serve` is not called any more
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  Watch() = default;
  void run(int fd, const Serve& serve) const;
  bool is_over_within(int timeout_ms) const;

  Fd stop_;  // an event descriptor: readable once the thread has to end
  std::thread thread_;
};

}  // namespace reshard
