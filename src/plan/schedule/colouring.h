// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

namespace reshard {

/// What one sender has for one receiver.
struct Entry {
  std::int32_t src = 0;
  std::int32_t dst = 0;
  std::int64_t bytes = 0;
};

/// In which rounds each entry sends. A round is the time in which a port moves chunk_bytes. An entry of m chunks has m
/// numbers, and its bytes are shared over them evenly.
struct Rounds {
  std::int32_t num_rounds = 0;
  std::int64_t chunk_bytes = 1;
  std::vector<std::int64_t> first;    ///< per entry, and one more: where its rounds begin in `numbers`
  std::vector<std::int32_t> numbers;  ///< rounds, ascending per entry

  /// Too small to hold a port for a round: it gets one slot, beside what is scheduled there.
  bool is_small(const Entry& entry) const { return entry.bytes > 0 && entry.bytes < chunk_bytes / 8; }
  /// Large enough to be rounded to the nearer or the farther whole number of chunks; others are rounded up.
  bool is_large(const Entry& entry) const { return entry.bytes / 4 >= chunk_bytes; }
};

/// Orders the bytes of a matrix of senders and receivers into at most 2^log2_rounds rounds, in each of which no sender
/// and no receiver has two entries that are not small: an edge colouring of the bipartite multigraph in which an entry
/// has bytes / chunk_bytes parallel edges, rounded.
///
/// The chunk is the least (to 1 / 4096) at which no row and no column has more than 2^log2_rounds chunks, its small
/// entries counted by their bytes. Large entries are rounded such that every line's sum is rounded up at most to the
/// next whole chunk, bit by bit from the lowest by Euler splits; so their chunks may be up to a quarter larger than
/// chunk_bytes. The multigraph is then halved log2_rounds times such that every line is halved: half of every
/// multiplicity goes to each side and only odd remainders are walked, so a split costs time linear in the distinct
/// entries, and no matching is ever searched. The first split parts the time into its halves, the next into quarters:
/// an entry of m chunks has floor or ceil of m / 2^d of them in every 2^d-th of the 2^log2_rounds rounds (of which
/// empty ones are then left out). Small entries of a sender are spread evenly, in the order of (dst - src) so that
/// senders do not meet. Rejected: Birkhoff-von Neumann decomposition, which needs a matching per round; first fit, up
/// to twice the rounds; rounding everything up, which costs half a chunk per entry: 15 % at 64 entries a row in 256
/// rounds.
Rounds colour(const std::vector<Entry>& entries, std::int32_t num_src, std::int32_t num_dst, int log2_rounds);

}  // namespace reshard
