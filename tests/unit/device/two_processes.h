// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Two processes that share device memory. Both are forked from one that has never used CUDA, as CUDA demands.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace reshard {

/// The other process, at the end of a local socket.
class Partner {
 public:
  explicit Partner(int socket) : socket_(socket) {}
  void send(const std::vector<std::byte>& bytes) const;
  /// Empty when the other one has ended.
  std::vector<std::byte> receive() const;
  void send_text(const std::string& text) const;
  std::string receive_text() const;

 private:
  int socket_;
};

/// Ends the process that calls it as failed, with a line that says where.
void require(bool holds, const char* text, const char* file, int line);
#define RESHARD_REQUIRE(condition) ::reshard::require((condition), #condition, __FILE__, __LINE__)

/// Runs both and waits for them; whether both came to their end with nothing wrong.
bool run_two(const std::function<void(const Partner&)>& first, const std::function<void(const Partner&)>& second);

}  // namespace reshard
