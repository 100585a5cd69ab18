// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One connection of the bootstrap: bytes in, frames out. Either end may be slow, dead or a stranger, so nothing blocks,
// every length is bounded before memory is taken for it, and a frame is handed out only when it is complete.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "src/transport/socket.h"

namespace reshard {

/// What the bootstrap says over a connection. The first four are the handshake (tcp_handshake.h). Then, for each
/// all-gather: a kContribution of every leaf, and one kResult or kFailure to every leaf. A leaf that cannot wait longer
/// says kGiveUp and waits a moment more for one of the two. kDeparture and kGoodbye may come at any time and belong to
/// no all-gather.
enum class FrameType : std::uint32_t {
  kHello = 1,         ///< to rank 0: who I am
  kChallenge = 2,     ///< from rank 0: I know the secret; do you?
  kProof = 3,         ///< to rank 0: I know it too
  kWelcome = 4,       ///< from rank 0: this is the right place
  kContribution = 5,  ///< to rank 0: my blob of all-gather `sequence`
  kResult = 6,        ///< from rank 0: all blobs of it
  kFailure = 7,       ///< from rank 0: it failed, and why
  kGiveUp = 8,        ///< to rank 0: my deadline for it has passed, or, with a payload, why I cannot take part
  kDeparture = 9,     ///< from rank 0: the ranks that have left in order
  kGoodbye = 10,      ///< the sender closes in order
};

struct Frame {
  FrameType type = FrameType::kHello;
  std::uint64_t sequence = 0;
  std::vector<std::byte> payload;
};

/// The bytes of a frame, to be sent to one or to many.
using EncodedFrame = std::shared_ptr<const std::vector<std::byte>>;
EncodedFrame encode(const Frame& frame);

/// Frames over a non-blocking socket. What the kernel does not take is kept until the next pump(). A channel never
/// holds more unread input than the largest frame it accepts and one read: the rest waits in the kernel, where it is
/// bounded.
class Channel {
 public:
  /// A frame with a longer payload closes the channel: until the other end has proved who it is, keep this small.
  Channel(Fd fd, std::size_t max_payload_bytes) : fd_(std::move(fd)), max_payload_bytes_(max_payload_bytes) {}

  void send(EncodedFrame frame);
  void pump();           ///< reads and writes what can be without blocking
  const Frame* front();  ///< the oldest frame not popped, or null
  void pop() { has_front_ = false; }
  bool closed() const { return closed_; }  ///< nothing more will be read; frames read before may still be there
  bool has_output() const { return !output_.empty(); }
  int fd() const { return fd_.get(); }
  pollfd poll_entry() const;
  // The other end has proved who it is: frames may be this large from now on.
  void trust(std::size_t max_payload_bytes) { max_payload_bytes_ = max_payload_bytes; }

 private:
  void read();
  void write();

  Fd fd_;
  std::size_t max_payload_bytes_;
  bool closed_ = false;
  // Shared with other channels where a frame goes to many.
  std::deque<EncodedFrame> output_;
  std::size_t output_offset_ = 0;  // into the first frame of output_
  std::vector<std::byte> input_;
  std::size_t input_offset_ = 0;  // where the first frame that front() has not taken begins
  Frame front_;
  bool has_front_ = false;
};

}  // namespace reshard
