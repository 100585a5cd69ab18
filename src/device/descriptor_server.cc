// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/descriptor_server.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include <fmt/format.h>

namespace reshard {
namespace {

constexpr int kTimeoutMs = 1000;

struct Address {
  sockaddr_un value;
  socklen_t size_bytes;
};

/// In the abstract name space: the path begins with a null byte and names no file.
Address address_of(const std::string& name) {
  Address address{};
  address.value.sun_family = AF_UNIX;
  // A name comes from a key, which comes from elsewhere: what is too long for an address is nobody's.
  const std::string path = "reshard-" + name.substr(0, sizeof address.value.sun_path - sizeof "reshard-");
  std::memcpy(address.value.sun_path + 1, path.data(), path.size());
  address.size_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  return address;
}

OwnedDescriptor local_socket() {
  return OwnedDescriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

bool wait_until_readable(int number) {
  pollfd entry{number, POLLIN, 0};
  return poll(&entry, 1, kTimeoutMs) == 1;
}

/// A message with room for one descriptor. One byte goes along: an empty message carries none.
struct DescriptorMessage {
  char payload = 0;
  iovec data{&payload, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};

  DescriptorMessage() {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  DescriptorMessage(const DescriptorMessage&) = delete;
  DescriptorMessage& operator=(const DescriptorMessage&) = delete;
};

void send_descriptor(int connection, int number) {
  DescriptorMessage out;
  cmsghdr* header = CMSG_FIRSTHDR(&out.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &number, sizeof(int));
  (void)sendmsg(connection, &out.message, MSG_NOSIGNAL);  // the peer sees the end of the connection when it fails
}

OwnedDescriptor receive_descriptor(int connection) {
  DescriptorMessage in;
  if (!wait_until_readable(connection) || recvmsg(connection, &in.message, MSG_CMSG_CLOEXEC) != 1) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&in.message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int number = -1;
  std::memcpy(&number, CMSG_DATA(header), sizeof(int));
  return OwnedDescriptor(number);
}

}  // namespace

OwnedDescriptor::~OwnedDescriptor() {
  if (is_open()) close(number_);
}

struct DescriptorServer::State {
  std::string name;
  OwnedDescriptor listener;
  std::mutex mutex;  // of what follows
  std::map<std::int64_t, OwnedDescriptor> offered;
  std::int64_t next_number = 0;
  std::thread thread;

  void answer_all() {
    // Ends when the listener is shut down.
    while (true) {
      const OwnedDescriptor connection(accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
      if (connection.is_open()) {
        answer(connection.number());
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return;
      }
    }
  }

  void answer(int connection) {
    std::int64_t number = 0;
    if (!wait_until_readable(connection) || recv(connection, &number, sizeof number, 0) != sizeof number) return;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = offered.find(number);
    if (found != offered.end()) send_descriptor(connection, found->second.number());
  }
};

DescriptorServer::DescriptorServer() : state_(std::make_unique<State>()) {}

Result<std::unique_ptr<DescriptorServer>> DescriptorServer::start() {
  std::array<unsigned char, 16> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return Status(RESHARD_ERR_INTERNAL, fmt::format("getrandom failed: {}", std::strerror(errno)));
  }
  std::unique_ptr<DescriptorServer> server(new DescriptorServer);
  State& state = *server->state_;
  for (const unsigned char byte : random) state.name += fmt::format("{:02x}", byte);
  state.listener = local_socket();
  const Address address = address_of(state.name);
  const auto* general = reinterpret_cast<const sockaddr*>(&address.value);
  if (!state.listener.is_open() || bind(state.listener.number(), general, address.size_bytes) != 0 ||
      listen(state.listener.number(), SOMAXCONN) != 0) {
    return Status(RESHARD_ERR_TRANSPORT,
                  fmt::format("no local socket to hand device memory to peers: {}", std::strerror(errno)));
  }
  state.thread = std::thread([&state] { state.answer_all(); });
  return server;
}

DescriptorServer::~DescriptorServer() {
  if (!state_->thread.joinable()) return;
  shutdown(state_->listener.number(), SHUT_RDWR);
  state_->thread.join();
}

const std::string& DescriptorServer::name() const {
  return state_->name;
}

std::int64_t DescriptorServer::offer(OwnedDescriptor descriptor) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->offered.emplace(state_->next_number, std::move(descriptor));
  return state_->next_number++;
}

void DescriptorServer::withdraw(std::int64_t number) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->offered.erase(number);
}

OwnedDescriptor fetch_descriptor(const std::string& server_name, std::int64_t number) {
  const OwnedDescriptor connection = local_socket();
  const Address address = address_of(server_name);
  const auto* general = reinterpret_cast<const sockaddr*>(&address.value);
  if (!connection.is_open() || connect(connection.number(), general, address.size_bytes) != 0) return {};
  if (send(connection.number(), &number, sizeof number, MSG_NOSIGNAL) != sizeof number) return {};
  return receive_descriptor(connection.number());
}

}  // namespace reshard
