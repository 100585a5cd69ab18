// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/device/two_processes.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace reshard {
namespace {

bool read_all(int socket, void* data, std::size_t size_bytes) {
  auto* next = static_cast<char*>(data);
  while (size_bytes > 0) {
    const ssize_t count = read(socket, next, size_bytes);
    if (count <= 0) return false;
    next += count;
    size_bytes -= static_cast<std::size_t>(count);
  }
  return true;
}

pid_t start(const std::function<void(const Partner&)>& body, int own, int others) {
  const pid_t child = fork();
  if (child != 0) return child;
  alarm(60);  // whatever hangs, ends
  close(others);
  body(Partner(own));
  std::fflush(nullptr);
  std::quick_exit(0);  // the test program's own clean-up is its parent's
}

bool ended_well(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

void Partner::send(const std::vector<std::byte>& bytes) const {
  const std::uint64_t size_bytes = bytes.size();
  RESHARD_REQUIRE(::send(socket_, &size_bytes, sizeof size_bytes, MSG_NOSIGNAL) == sizeof size_bytes);
  RESHARD_REQUIRE(::send(socket_, bytes.data(), size_bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(size_bytes));
}

std::vector<std::byte> Partner::receive() const {
  std::uint64_t size_bytes = 0;
  if (!read_all(socket_, &size_bytes, sizeof size_bytes)) return {};
  std::vector<std::byte> bytes(size_bytes);
  return read_all(socket_, bytes.data(), size_bytes) ? bytes : std::vector<std::byte>();
}

void Partner::send_text(const std::string& text) const {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  send({first, first + text.size()});
}

std::string Partner::receive_text() const {
  const std::vector<std::byte> bytes = receive();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void require(bool holds, const char* text, const char* file, int line) {
  if (holds) return;
  std::fprintf(stderr, "%s:%d: process %d: %s does not hold\n", file, line, static_cast<int>(getpid()), text);
  std::quick_exit(1);
}

bool run_two(const std::function<void(const Partner&)>& first, const std::function<void(const Partner&)>& second) {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()) != 0) return false;
  const std::array<pid_t, 2> children{start(first, sockets[0], sockets[1]), start(second, sockets[1], sockets[0])};
  close(sockets[0]);
  close(sockets[1]);
  bool is_well = true;
  for (const pid_t child : children) is_well = ended_well(child) && is_well;
  return is_well;
}

}  // namespace reshard
