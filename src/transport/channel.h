// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "src/transport/socket.h"

namespace reshard {

/// What the bootstrap says over a connection.
enum class FrameType : std::uint32_t {
  kHello = 1,         ///< to rank 0: who I am
  kWelcome = 2,       ///< from rank 0: this is the right place
  kContribution = 3,  ///< to rank 0: my blob of all-gather `sequence`
  kResult = 4,        ///< from rank 0: all blobs of it
  kFailure = 5,       ///< from rank 0: it failed, and why
  kGiveUp = 6,        ///< to rank 0: my deadline for it has passed
  kGoodbye = 7,       ///< the sender closes in order
};

struct Frame {
  FrameType type = FrameType::kHello;
  std::uint64_t sequence = 0;
  std::vector<std::byte> payload;
};

/// The bytes of a frame, to be sent to one or to many.
using EncodedFrame = std::shared_ptr<const std::vector<std::byte>>;
EncodedFrame encode(const Frame& frame);

/// Frames over a non-blocking socket. What the kernel does not take is kept until the next pump().
class Channel {
 public:
  explicit Channel(Fd fd) : fd_(std::move(fd)) {}

  void send(EncodedFrame frame);
  void pump();           ///< reads and writes what can be without blocking
  const Frame* front();  ///< the oldest frame not popped, or null
  void pop() { has_front_ = false; }
  bool closed() const { return closed_; }  ///< nothing more will be read; frames read before may still be there
  bool has_output() const { return !output_.empty(); }
  pollfd poll_entry() const;
  void trust() { max_payload_bytes_ = std::numeric_limits<std::size_t>::max(); }  ///< before: only small frames

 private:
  void read();
  void write();

  Fd fd_;
  std::size_t max_payload_bytes_ = 4096;
  bool closed_ = false;
  std::deque<EncodedFrame> output_;
  std::size_t output_offset_ = 0;  // into the first frame of output_
  std::vector<std::byte> input_;
  std::size_t input_offset_ = 0;
  Frame front_;
  bool has_front_ = false;
};

}  // namespace reshard
