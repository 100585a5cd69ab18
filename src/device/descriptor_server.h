// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Hands open file descriptors of this process to others of this host. A descriptor cannot travel in a key: the kernel
// passes it from process to process only along a local socket (SCM_RIGHTS). Taking it from the other process by number
// (pidfd_getfd) needs the right to debug that process, which containers withhold.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "src/base/status.h"

namespace reshard {

/// An open descriptor that is closed at the end. Movable.
class OwnedDescriptor {
 public:
  OwnedDescriptor() = default;
  explicit OwnedDescriptor(int number) : number_(number) {}
  OwnedDescriptor(OwnedDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  OwnedDescriptor& operator=(OwnedDescriptor&& other) noexcept { return std::swap(number_, other.number_), *this; }
  ~OwnedDescriptor();
  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

/// Answers on a thread of its own, so that a peer can map while this process is in a kernel or in the caller's code.
/// Listens on a socket in the abstract name space: no file is left behind by a process that is killed.
class DescriptorServer {
 public:
  static Result<std::unique_ptr<DescriptorServer>> start();
  ~DescriptorServer();  ///< stops answering; descriptors that peers already have stay theirs
  DescriptorServer(const DescriptorServer&) = delete;
  DescriptorServer& operator=(const DescriptorServer&) = delete;

  /// Where fetch_descriptor finds this server: 32 random hexadecimal digits, so that only who was told asks.
  const std::string& name() const;

  /// Keeps the descriptor open and offers it under the number that is returned.
  std::int64_t offer(OwnedDescriptor descriptor);

  /// Closes it.
  void withdraw(std::int64_t number);

 private:
  DescriptorServer();
  struct State;  // shared with the thread
  std::unique_ptr<State> state_;
};

/// A descriptor of this process for the file that the server of this name offers under `number`. Not open when nobody
/// answers within a second: the server is gone, or is of another host or another network name space.
OwnedDescriptor fetch_descriptor(const std::string& server_name, std::int64_t number);

}  // namespace reshard
