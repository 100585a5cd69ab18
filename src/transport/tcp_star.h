// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "src/transport/bootstrap.h"
#include "src/transport/channel.h"

namespace reshard {

/// First frame on every connection. Whoever does not know the nonce is a stranger and is never answered.
struct Hello {
  std::uint64_t nonce;
  std::int32_t rank;
  std::int32_t num_ranks;
};

/// The sequence number of a failure that ends every all-gather, not only one.
inline constexpr std::uint64_t kEveryCollective = std::numeric_limits<std::uint64_t>::max();

Frame failure_frame(std::uint64_t sequence, const Status& status);
Status decode_failure(const Frame& frame);
Blob pack_blobs(const std::vector<Blob>& blobs);
Result<std::vector<Blob>> unpack_blobs(const Blob& packed, std::int32_t num_ranks);

/// How long to sleep for sockets: with something else to progress, only as long as that may wait.
std::int64_t sleep_ms(const Bootstrap::Progress& progress, const Deadline& deadline);

/// Writes out what the channels still hold, for a short while at most: for destructors.
void drain(const std::vector<Channel*>& channels);

/// Rank 0, the centre of the star. It listens until the first all-gather is complete: that is the rendezvous.
std::unique_ptr<Bootstrap> create_tcp_root(Fd listener, std::uint64_t nonce, std::int32_t num_ranks);

/// Any other rank: finds rank 0 and waits for its welcome, within the deadline.
Result<std::unique_ptr<Bootstrap>> create_tcp_leaf(const Rendezvous& rendezvous, std::int32_t rank,
                                                   std::int32_t num_ranks, const Deadline& deadline);

}  // namespace reshard
