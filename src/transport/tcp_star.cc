// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/tcp_star.h"

#include <algorithm>
#include <cstring>

namespace reshard {

Frame failure_frame(std::uint64_t sequence, const Status& status) {
  const std::int32_t code = status.code();
  Frame frame{FrameType::kFailure, sequence, Blob(sizeof(code) + status.message().size())};
  std::memcpy(frame.payload.data(), &code, sizeof(code));
  std::memcpy(frame.payload.data() + sizeof(code), status.message().data(), status.message().size());
  return frame;
}

Status decode_failure(const Frame& frame) {
  std::int32_t code = 0;
  if (frame.payload.size() < sizeof(code)) return {RESHARD_ERR_TRANSPORT, "rank 0 reported a failure without a reason"};
  std::memcpy(&code, frame.payload.data(), sizeof(code));
  const auto* text = reinterpret_cast<const char*>(frame.payload.data());
  return {static_cast<reshard_status_t>(code), std::string(text + sizeof(code), text + frame.payload.size())};
}

// The sizes of all blobs, then the blobs.
Blob pack_blobs(const std::vector<Blob>& blobs) {
  Blob packed(blobs.size() * sizeof(std::uint64_t));
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    const std::uint64_t size_bytes = blobs[i].size();
    std::memcpy(packed.data() + i * sizeof(size_bytes), &size_bytes, sizeof(size_bytes));
  }
  for (const Blob& blob : blobs) packed.insert(packed.end(), blob.begin(), blob.end());
  return packed;
}

Result<std::vector<Blob>> unpack_blobs(const Blob& packed, std::int32_t num_ranks) {
  const Status malformed(RESHARD_ERR_TRANSPORT, "the result of an all-gather from rank 0 is malformed");
  std::size_t offset = static_cast<std::size_t>(num_ranks) * sizeof(std::uint64_t);
  if (packed.size() < offset) return malformed;
  std::vector<Blob> blobs;
  for (std::size_t i = 0; i < static_cast<std::size_t>(num_ranks); ++i) {
    std::uint64_t size_bytes = 0;
    std::memcpy(&size_bytes, packed.data() + i * sizeof(size_bytes), sizeof(size_bytes));
    if (size_bytes > packed.size() - offset) return malformed;
    const auto begin = packed.begin() + static_cast<std::ptrdiff_t>(offset);
    blobs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size_bytes));
    offset += size_bytes;
  }
  return blobs;
}

std::int64_t sleep_ms(const Bootstrap::Progress& progress, const Deadline& deadline) {
  constexpr std::int64_t kLongestMs = 50;
  if (!progress) return std::min(deadline.remaining_us() / 1000 + 1, kLongestMs);
  return progress() ? 0 : 1;
}

void drain(const std::vector<Channel*>& channels) {
  const Deadline deadline(200'000);
  while (!deadline.expired()) {
    std::vector<pollfd> sockets;
    for (Channel* channel : channels) {
      channel->pump();
      if (channel->has_output()) sockets.push_back(channel->poll_entry());
    }
    if (sockets.empty()) return;
    wait_for_sockets(&sockets, sleep_ms({}, deadline));
  }
}

}  // namespace reshard
