// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/tcp_star.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace reshard {
namespace {

// Codes come from another process: what is no error code would make a status that reads as success, or as nothing.
bool is_error_code(std::int32_t code) {
  for (const reshard_status_t error :
       {RESHARD_ERR_INVALID_ARGUMENT, RESHARD_ERR_INVALID_STATE, RESHARD_ERR_NOT_SUPPORTED, RESHARD_ERR_OUT_OF_MEMORY,
        RESHARD_ERR_IO, RESHARD_ERR_LAYOUT_MISMATCH, RESHARD_ERR_NOT_COVERED, RESHARD_ERR_PLAN_MISMATCH,
        RESHARD_ERR_BUFFER_TOO_SMALL, RESHARD_ERR_STAGING_TOO_SMALL, RESHARD_ERR_TIMEOUT, RESHARD_ERR_PEER_FAILED,
        RESHARD_ERR_TRANSPORT, RESHARD_ERR_ABANDONED, RESHARD_ERR_GIVEN_UP, RESHARD_ERR_DATA_MISMATCH,
        RESHARD_ERR_INTERNAL}) {
    if (code == error) return true;
  }
  return false;
}

}  // namespace

Status check_contribution(std::size_t size_bytes) {
  if (size_bytes <= kMostContributedBytes) return {};
  return invalid_argument(fmt::format("all-gather: {} bytes of one rank are more than the {} it may give at once",
                                      size_bytes, kMostContributedBytes));
}

Blob encode_failure(const Status& status) {
  const std::int32_t code = status.code();
  Blob payload(sizeof(code) + status.message().size());
  std::memcpy(payload.data(), &code, sizeof(code));
  std::memcpy(payload.data() + sizeof(code), status.message().data(), status.message().size());
  return payload;
}

Status decode_failure(const Blob& payload) {
  std::int32_t code = 0;
  if (payload.size() < sizeof(code)) return {RESHARD_ERR_TRANSPORT, "a rank reported a failure without saying which"};
  std::memcpy(&code, payload.data(), sizeof(code));
  const auto* text = reinterpret_cast<const char*>(payload.data());
  std::string message(text + sizeof(code), text + payload.size());
  if (is_error_code(code)) return {static_cast<reshard_status_t>(code), message};
  return {RESHARD_ERR_TRANSPORT,
          fmt::format("a rank reported a failure with the code {}, which is no error's: {}", code, message)};
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
    // offset never passes the end, so that the difference does not wrap around.
    if (size_bytes > packed.size() - offset) return malformed;
    const auto begin = packed.begin() + static_cast<std::ptrdiff_t>(offset);
    blobs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size_bytes));
    offset += size_bytes;
  }
  return blobs;
}

Blob encode_ranks(const std::vector<std::int32_t>& ranks) {
  const auto bytes = std::as_bytes(std::span(ranks));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::int32_t> decode_ranks(const Blob& payload, std::int32_t num_ranks) {
  std::vector<std::int32_t> ranks(payload.size() / sizeof(std::int32_t));
  if (!ranks.empty()) std::memcpy(ranks.data(), payload.data(), ranks.size() * sizeof(std::int32_t));
  std::erase_if(ranks, [num_ranks](std::int32_t rank) { return rank < 0 || rank >= num_ranks; });
  return ranks;
}

std::int64_t sleep_ms(const Bootstrap::Progress& progress, const Deadline& deadline) {
  // Events wake the sleep anyway; the bound is for deadlines and for what only time changes (strangers, reminders).
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
