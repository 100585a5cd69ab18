// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The kernel's sockets with this library's habits: non-blocking, closed on exec (a rank may start other programs),
// errors as statuses with what to do, and every address of a name tried.
#include "src/transport/socket.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace reshard {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, FreeAddresses>;

Status socket_error(const std::string& what, int error) {
  return {RESHARD_ERR_TRANSPORT, fmt::format("{}: {}", what, std::strerror(error))};
}

Result<AddressList> resolve(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0) {
    return Status(RESHARD_ERR_TRANSPORT, fmt::format("cannot resolve the host \"{}\": {}", host, gai_strerror(error)));
  }
  return AddressList(list);
}

Fd open_socket(const addrinfo& address) {
  return Fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// A host that vanishes without closing its connections is noticed within about ten seconds: five of silence, then five
// probes a second apart. Small frames leave at once; each of them is one that somebody waits for.
void configure(const Fd& fd) {
  const auto set = [&](int level, int option, int value) {
    setsockopt(fd.get(), level, option, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 5);
}

// Waits for the outcome of a connect() that is under way; 0 on success, else an errno.
int finish_connect(const Fd& fd, const Deadline& deadline) {
  pollfd entry{fd.get(), POLLOUT, 0};
  // An hour stands for no limit, as poll() counts in an int. The kernel gives up on a connection much earlier.
  const std::int64_t timeout_ms = std::min<std::int64_t>(deadline.remaining_us() / 1000 + 1, 3'600'000);
  if (poll(&entry, 1, static_cast<int>(timeout_ms)) == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

Result<Fd> listen_on(const std::string& host, std::uint16_t port) {
  if (host.empty()) {  // the first takes IPv4 too, but a host may have no IPv6
    Result<Fd> both = listen_on("::", port);
    return both.ok() ? std::move(both) : listen_on("0.0.0.0", port);
  }
  RESHARD_TRY(const AddressList list, resolve(host, port));
  int error = 0;
  for (const addrinfo* address = list.get(); address != nullptr; address = address->ai_next) {
    Fd fd = open_socket(*address);
    // Else connections of a run that has just ended would keep the port for a minute.
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd.valid() && bind(fd.get(), address->ai_addr, address->ai_addrlen) == 0 && listen(fd.get(), SOMAXCONN) == 0) {
      return fd;
    }
    error = errno;
  }
  return socket_error(fmt::format("cannot listen on {} port {}", host, port), error);
}

std::uint16_t listening_port(int fd) {
  int listens = 0;
  socklen_t size = sizeof(listens);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return 0;
  sockaddr_storage address{};
  size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return 0;
}

Accepted accept_from(const Fd& listener) {
  while (true) {
    Accepted accepted{Fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC))};
    if (accepted.fd.valid()) {
      configure(accepted.fd);
      return accepted;
    }
    // A connection that its other end has closed meanwhile says nothing about the next one.
    if (errno == ECONNABORTED || errno == EINTR) continue;
    accepted.is_short_of_fds = errno == EMFILE || errno == ENFILE;
    return accepted;
  }
}

Result<Fd> connect_to(const std::string& host, std::uint16_t port, const Deadline& deadline) {
  RESHARD_TRY(const AddressList list, resolve(host, port));
  int error = 0;
  for (const addrinfo* address = list.get(); address != nullptr; address = address->ai_next) {
    Fd fd = open_socket(*address);
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    error = connect(fd.get(), address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) error = finish_connect(fd, deadline);
    if (error == 0) {
      configure(fd);
      return fd;
    }
  }
  return socket_error(fmt::format("cannot connect to {} port {}", host, port), error);
}

std::vector<std::string> local_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) list = nullptr;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0)
      continue;
    const bool is_ipv4 = entry->ifa_addr->sa_family == AF_INET;
    if (!is_ipv4 && entry->ifa_addr->sa_family != AF_INET6) continue;
    char host[NI_MAXHOST];
    const socklen_t size = is_ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(entry->ifa_addr, size, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0) continue;
    // A link-local address, such as fe80::1%eth0, names an interface of this host.
    if (std::strchr(host, '%') == nullptr) addresses.emplace_back(host);
  }
  freeifaddrs(list);
  addresses.emplace_back("127.0.0.1");
  return addresses;
}

void wait_for_sockets(std::vector<pollfd>* sockets, std::int64_t timeout_ms) {
  const std::int64_t most = std::numeric_limits<int>::max();
  poll(sockets->data(), sockets->size(), static_cast<int>(std::clamp<std::int64_t>(timeout_ms, 0, most)));
}

Result<Poller> Poller::create() {
  Poller poller;
  poller.epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!poller.epoll_.valid()) return socket_error("cannot make an epoll descriptor", errno);
  poller.events_.resize(kMostEvents);
  return poller;
}

bool Poller::add(int fd, std::uint64_t key) {
  epoll_event event{EPOLLIN, {.u64 = key}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::watch_output(int fd, std::uint64_t key, bool is_wanted) {
  epoll_event event{EPOLLIN | (is_wanted ? EPOLLOUT : 0U), {.u64 = key}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd) {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

std::span<const epoll_event> Poller::wait(std::int64_t timeout_ms) {
  const std::int64_t most = std::numeric_limits<int>::max();
  const int num_events = epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()),
                                    static_cast<int>(std::clamp<std::int64_t>(timeout_ms, 0, most)));
  return {events_.data(), static_cast<std::size_t>(std::max(num_events, 0))};
}

}  // namespace reshard
