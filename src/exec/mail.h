// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "src/transport/transport.h"

namespace reshard {

/// Messages between some of the ranks while a binding is made: all are waited for together, and taken back together by
/// the destructor when that failed. Both ends know who writes to whom, and how much.
class Mail {
 public:
  /// `transport` outlives it. Messages between two ranks match in order, so all mail of a binding may have one tag.
  Mail(Transport* transport, std::uint64_t tag, const Deadline& deadline)
      : transport_(transport), tag_(tag), deadline_(deadline) {}
  ~Mail();
  Mail(const Mail&) = delete;
  Mail& operator=(const Mail&) = delete;

  Status send(std::int32_t peer, std::vector<std::byte> bytes);
  /// Receives into the next of received().
  Status recv(std::int32_t peer, std::size_t size_bytes);
  const std::vector<std::byte>& received(std::size_t index) const { return *received_[index]; }

  /// RESHARD_ERR_TIMEOUT; RESHARD_ERR_PEER_FAILED, also for a rank that left meanwhile; RESHARD_ERR_TRANSPORT.
  Status wait() const;

 private:
  struct Letter {
    std::int32_t peer = -1;
    Request request;
    std::vector<std::byte> bytes;
  };
  Status check_departed() const;

  Transport* transport_;
  std::uint64_t tag_;
  const Deadline& deadline_;
  std::shared_ptr<std::deque<Letter>> letters_ = std::make_shared<std::deque<Letter>>();  // at fixed addresses
  std::vector<const std::vector<std::byte>*> received_;
};

}  // namespace reshard
