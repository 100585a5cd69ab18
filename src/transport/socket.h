// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <poll.h>
#include <sys/epoll.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/transport/transport.h"

namespace reshard {

/// Owns a file descriptor.
///
/// Moved and never copied, so that a number is closed once: a second close could hit a descriptor that another thread
/// has just been given under the same number.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  // What this one held goes with `other`, whose destructor closes it.
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

/// Listens, without blocking, on one address of this host; an empty host: on all of them. Port 0: any free one.
Result<Fd> listen_on(const std::string& host, std::uint16_t port);

/// The port that a listening socket has; 0 when `fd` is not one.
std::uint16_t listening_port(int fd);

/// The next connection of a non-blocking listening socket.
struct Accepted {
  Fd fd;                         ///< not valid: none
  bool is_short_of_fds = false;  ///< none because this process, or the machine, has no descriptor left
};
Accepted accept_from(const Fd& listener);

/// Connects within the deadline. The error says why the last address of the host failed.
Result<Fd> connect_to(const std::string& host, std::uint16_t port, const Deadline& deadline);

/// The numeric addresses of this host that others may reach, those that only the host itself can reach last.
std::vector<std::string> local_addresses();

/// Sleeps until something can be read, or written where POLLOUT is asked for, at most `timeout_ms`.
void wait_for_sockets(std::vector<pollfd>* sockets, std::int64_t timeout_ms);

/// Waits for many sockets at the cost of those that have news, however many there are. A key of the caller's says which
/// socket an event is of.
class Poller {
 public:
  static Result<Poller> create();

  bool add(int fd, std::uint64_t key);  ///< for input; false when the kernel has no room
  void watch_output(int fd, std::uint64_t key, bool is_wanted);
  void remove(int fd);  ///< before it is closed: a forked process may hold it open, and events would go on

  /// The events of at most kMostEvents sockets; the rest show in the next call. Valid until then.
  std::span<const epoll_event> wait(std::int64_t timeout_ms);

  int fd() const { return epoll_.get(); }  ///< readable while there are events

 private:
  static constexpr std::size_t kMostEvents = 1024;
  Fd epoll_;
  std::vector<epoll_event> events_;
};

}  // namespace reshard
