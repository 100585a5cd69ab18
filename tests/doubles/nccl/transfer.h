// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The bytes of one part of one operation, through one ring, as far as they come at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/doubles/nccl/clique.h"

namespace nccl_double {

enum class MessageKind : std::uint32_t { kSend = 1, kBroadcast, kAllReduce };

/// In front of each message, so that two ends that do not mean the same are found.
struct MessageHead {
  MessageKind kind = MessageKind::kSend;
  std::uint32_t part = 0;
  std::uint64_t operation_bytes = 0;
};

struct Transfer {
  enum class Step { kNone, kMoved, kDone, kMismatch };

  Ring* ring = nullptr;
  bool is_send = false;
  int peer = 0;
  MessageHead head;
  std::byte* data = nullptr;
  std::uint64_t size_bytes = 0;
  bool is_lost = false;
  bool is_of_device = true;  // false: a buffer of the double itself

  std::uint64_t num_moved = 0;
  bool has_head = false;
  bool is_done = false;
  MessageHead found;  // of the other end, where it differs

  /// `buffer_bytes`: what may be on its way when a send ends.
  Step step(std::uint64_t buffer_bytes);

 private:
  Step send(std::uint64_t buffer_bytes);
  Step receive();
};

}  // namespace nccl_double
