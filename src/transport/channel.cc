// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace reshard {
namespace {

struct FrameHeader {
  std::uint32_t magic;
  FrameType type;
  std::uint64_t sequence;
  std::uint64_t size_bytes;
};
// "2RSH": the first byte is the version of the protocol. Both ends run on machines of one byte order.
constexpr std::uint32_t kFrameMagic = 0x48535232;

}  // namespace

EncodedFrame encode(const Frame& frame) {
  const FrameHeader header{kFrameMagic, frame.type, frame.sequence, frame.payload.size()};
  std::vector<std::byte> bytes(sizeof(header));
  std::memcpy(bytes.data(), &header, sizeof(header));
  bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
  return std::make_shared<const std::vector<std::byte>>(std::move(bytes));
}

void Channel::send(EncodedFrame frame) {
  output_.push_back(std::move(frame));
  write();
}

void Channel::pump() {
  read();
  write();
}

// Reads as much as the largest frame may need and no more. From a stranger, whose frames must be tiny, that is a few
// bytes: he cannot fill our memory, however much he sends.
void Channel::read() {
  std::byte chunk[65536];
  // Frames that were taken are cut off here, once for each read and not once for each frame.
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(std::exchange(input_offset_, 0)));
  const std::size_t most_bytes = sizeof(FrameHeader) + max_payload_bytes_;
  while (!closed_ && input_.size() < most_bytes) {
    const ssize_t got = recv(fd_.get(), chunk, std::min(sizeof(chunk), most_bytes - input_.size()), 0);
    // Nothing more for now. An interrupted call is as good as none: the poller names this socket again.
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      closed_ = true;
      return;
    }
    input_.insert(input_.end(), chunk, chunk + got);
  }
}

void Channel::write() {
  while (!output_.empty()) {
    const std::vector<std::byte>& bytes = *output_.front();
    const ssize_t sent = ::send(fd_.get(), bytes.data() + output_offset_, bytes.size() - output_offset_, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent < 0) {
      output_.clear();  // the other end is gone; read() finds that out after the last frame that it sent
      return;
    }
    output_offset_ += static_cast<std::size_t>(sent);
    if (output_offset_ < bytes.size()) continue;
    output_.pop_front();
    output_offset_ = 0;
  }
}

const Frame* Channel::front() {
  if (has_front_) return &front_;
  FrameHeader header;
  const std::size_t available = input_.size() - input_offset_;
  if (available < sizeof(header)) return nullptr;
  std::memcpy(&header, input_.data() + input_offset_, sizeof(header));
  // Checked from the header alone, before any of the payload has to be there: a wrong length would have us wait for
  // ever.
  if (header.magic != kFrameMagic || header.size_bytes > max_payload_bytes_) {
    closed_ = true;  // not one of ours
    input_.clear();
    input_offset_ = 0;
    return nullptr;
  }
  if (available - sizeof(header) < header.size_bytes) return nullptr;
  const auto payload = input_.begin() + static_cast<std::ptrdiff_t>(input_offset_ + sizeof(header));
  const auto end = payload + static_cast<std::ptrdiff_t>(header.size_bytes);
  front_ = {header.type, header.sequence, {payload, end}};
  has_front_ = true;
  input_offset_ = static_cast<std::size_t>(end - input_.begin());
  return &front_;
}

pollfd Channel::poll_entry() const {
  // A negative descriptor is skipped by poll(): one that is closed would wake it for ever.
  const auto events = static_cast<short>(has_output() ? POLLIN | POLLOUT : POLLIN);
  return {closed_ ? -1 : fd_.get(), events, 0};
}

}  // namespace reshard
