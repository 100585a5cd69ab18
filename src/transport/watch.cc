// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The thread waits on two descriptors: the one to be served, and one of its own that ends it. A flag in place of the
// second would be seen only after the next news, and a timeout in place of it would wake an idle process for ever.
#include "src/transport/watch.h"

#include <fmt/core.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <utility>

namespace reshard {
namespace {

// A descriptor may stay readable although serve() has taken what it can, for instance while a frame waits for its turn.
// The thread then looks again this much later, and not at once.
constexpr int kPauseMs = 1;

// Threads inherit the signals that are blocked where they are started.
// A program's handlers expect its own threads, and a signal that is delivered here would interrupt none of its calls.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

Result<std::unique_ptr<Watch>> Watch::start(int fd, Serve serve) {
  std::unique_ptr<Watch> watch(new Watch);
  watch->stop_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!watch->stop_.valid()) {
    return Status(RESHARD_ERR_TRANSPORT, fmt::format("cannot make an event descriptor: {}", std::strerror(errno)));
  }
  try {
    const BlockedSignals blocked;
    watch->thread_ = std::thread([self = watch.get(), fd, serve = std::move(serve)] { self->run(fd, serve); });
  } catch (const std::system_error& error) {
    return Status(RESHARD_ERR_TRANSPORT,
                  fmt::format("rank 0 cannot start the thread that tells the others of lost ranks: {}; raise the limit "
                              "of processes (ulimit -u)",
                              error.what()));
  }
  pthread_setname_np(watch->thread_.native_handle(), "reshard-watch");
  return watch;
}

Watch::~Watch() {
  // Whoever destroys the watch holds no lock that serve() takes: the thread may be waiting for it.
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

bool Watch::is_over_within(int timeout_ms) const {
  pollfd entry{stop_.get(), POLLIN, 0};
  return poll(&entry, 1, timeout_ms) > 0;
}

void Watch::run(int fd, const Serve& serve) const {
  int timeout_ms = -1;
  while (true) {
    std::array<pollfd, 2> entries{{{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}}};
    poll(entries.data(), entries.size(), timeout_ms);
    if (entries[0].revents != 0) return;
    // The descriptor is not looked at: serve() finds out by itself, and after a timeout there are no news to see.
    timeout_ms = serve();
    // The pause, which the end of the watch cuts short.
    if (is_over_within(kPauseMs)) return;
  }
}

}  // namespace reshard
