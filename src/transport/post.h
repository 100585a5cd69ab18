// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Checks of arguments that are the same for all transports, so that the same mistake gives the same error on each.
#pragma once

#include <fmt/core.h>

#include <cstdint>

#include "src/transport/transport.h"

namespace reshard {

/// A message is matched by 64 bits, which is what UCX compares: the source rank in the upper 20, the caller's tag in
/// the lower 44. So one mask selects both, and a million ranks leave the caller 2^44 tags.
inline constexpr int kNumTagBits = 44;
inline constexpr std::uint64_t kMaxTag = (std::uint64_t{1} << kNumTagBits) - 1;
inline constexpr std::int32_t kMaxTaggedRanks = std::int32_t{1} << (64 - kNumTagBits);

/// What every transport asks of the arguments of send(), recv() and map().
inline Status check_peer(std::int32_t peer, std::int32_t num_ranks) {
  if (peer >= 0 && peer < num_ranks) return {};
  return invalid_argument(fmt::format("peer {} is not one of the {} ranks", peer, num_ranks));
}

// A request that is pending belongs to the transport: posting it again would lose the first message without a trace.
inline Status check_post(std::int32_t peer, std::int32_t num_ranks, std::uint64_t tag, const Request& request) {
  if (request.pending()) {
    return {RESHARD_ERR_INVALID_STATE, "the request is still in flight; wait for it or cancel it before posting again"};
  }
  if (tag > kMaxTag) return invalid_argument(fmt::format("tag {} needs more than {} bits", tag, kNumTagBits));
  return check_peer(peer, num_ranks);
}

inline Status check_num_ranks(std::int32_t rank, std::int32_t num_ranks) {
  if (num_ranks >= 1 && num_ranks <= kMaxTaggedRanks && rank >= 0 && rank < num_ranks) return {};
  return invalid_argument(
      fmt::format("rank {} of {}: there must be 1 to {} ranks, counted from 0", rank, num_ranks, kMaxTaggedRanks));
}

}  // namespace reshard
