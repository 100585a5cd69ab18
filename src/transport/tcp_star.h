// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "src/transport/bootstrap.h"
#include "src/transport/channel.h"

namespace reshard {

// The connections of a TCP bootstrap form a star: rank 0, the root, is connected with each of the others, the leaves.

/// The sequence number of a failure that ends every all-gather, not only one. No all-gather comes to it: one in every
/// nanosecond would take five hundred years.
inline constexpr std::uint64_t kEveryCollective = std::numeric_limits<std::uint64_t>::max();

/// What one rank may give to an all-gather: rank 0 holds one such message of every rank at once.
inline constexpr std::size_t kMostContributedBytes = std::size_t{256} << 20;

/// INVALID_ARGUMENT when a contribution is longer than that.
Status check_contribution(std::size_t size_bytes);

/// A status as the payload of a frame. Whatever arrives is an error: one without a code, or with a code that there is
/// not, is a fault of its own.
Blob encode_failure(const Status& status);
Status decode_failure(const Blob& payload);

/// The blobs of all ranks as one.
Blob pack_blobs(const std::vector<Blob>& blobs);
Result<std::vector<Blob>> unpack_blobs(const Blob& packed, std::int32_t num_ranks);

/// Ranks as the payload of a frame; what is not one of num_ranks is left out.
Blob encode_ranks(const std::vector<std::int32_t>& ranks);
std::vector<std::int32_t> decode_ranks(const Blob& payload, std::int32_t num_ranks);

/// How long to sleep for sockets: with something else to progress, only as long as that may wait.
std::int64_t sleep_ms(const Bootstrap::Progress& progress, const Deadline& deadline);

/// Says when a wait has become long: after two seconds, and again each time it has doubled.
class Patience {
 public:
  explicit Patience(Notice notice) : notice_(std::move(notice)), start_(std::chrono::steady_clock::now()) {}

  template <typename Text>
  void remind(const Text& text) {
    if (!notice_ || std::chrono::steady_clock::now() < start_ + next_) return;
    notice_(text());
    next_ *= 2;
  }

 private:
  Notice notice_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::duration next_ = std::chrono::seconds(2);
};

/// Writes out what the channels still hold, for a short while at most: for destructors.
void drain(const std::vector<Channel*>& channels);

/// Rank 0, the centre of the star. It listens until the first all-gather is complete: that is the rendezvous.
Result<std::unique_ptr<Bootstrap>> create_tcp_root(Fd listener, const Secret& secret, std::int32_t num_ranks,
                                                   const Notice& notice);

/// Any other rank: finds rank 0 and waits for its welcome, within the deadline.
Result<std::unique_ptr<Bootstrap>> create_tcp_leaf(const Rendezvous& rendezvous, std::int32_t rank,
                                                   std::int32_t num_ranks, const Deadline& deadline,
                                                   const Notice& notice);

}  // namespace reshard
