// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Edge colouring of a bipartite multigraph: senders on one side, receivers on the other, an edge for each chunk of
// bytes. Edges of one colour (a round) share no end, so that within a round every port has one partner.
//
// Chunks are as small as 2^log2_rounds rounds allow on the busiest line. A graph whose lines have at most 2^k edges is
// halved k times by Euler splits, each of which leaves at most half of every line on a side; what is left after k are
// matchings. Entries too small for a chunk are not coloured, but spread over the rounds by their sender.
#include "src/plan/schedule/colouring.h"

#include <algorithm>
#include <array>

#include "src/base/arithmetic.h"
#include "src/base/at.h"
#include "src/plan/schedule/euler_split.h"

namespace reshard {
namespace {

constexpr std::int64_t kChunkPrecision = 4096;
// Chunks are counted in 256ths until they are rounded.
constexpr int kFractionBits = 8;
constexpr std::int64_t kOneChunk = std::int64_t{1} << kFractionBits;

/// In 256ths; whole for those that are always rounded up, 0 for small ones.
std::int64_t num_chunks(const Rounds& rounds, const Entry& entry) {
  if (entry.bytes == 0 || rounds.is_small(entry)) return 0;
  if (rounds.is_large(entry)) return ceil_div(Wide{entry.bytes} << kFractionBits, rounds.chunk_bytes);
  return ceil_div(entry.bytes, rounds.chunk_bytes) << kFractionBits;
}

/// The rows and columns of the matrix (a "line" is either): how much each has to do, in chunks of a given size. Rows
/// come first in the vectors, then columns.
class Lines {
 public:
  Lines(const std::vector<Entry>& entries, std::int32_t num_src, std::int32_t num_dst, int log2_rounds)
      : entries_(entries),
        num_src_(num_src),
        limit_(std::int64_t{1} << log2_rounds),
        chunks_(static_cast<std::size_t>(num_src) + static_cast<std::size_t>(num_dst)),
        small_bytes_(chunks_.size()) {}

  /// The least chunk at which every line has time for its chunks, to 1 in 4096. No chunk can be smaller than the
  /// busiest line's bytes over the rounds; rounding makes it larger.
  std::int64_t chunk_bytes() {
    for (const Entry& entry : entries_) add(entry, entry.bytes, &small_bytes_);
    const std::int64_t most = small_bytes_.empty() ? 0 : *std::max_element(small_bytes_.begin(), small_bytes_.end());
    std::int64_t low = std::max<std::int64_t>(1, ceil_div(most, limit_));
    if (fits(low)) return low;
    // Larger chunks are fewer: double the step until they fit, then halve the interval, to 1 in 4096. Nearer would gain
    // no more than that of the time.
    std::int64_t step = 1 + low / 256;
    while (!fits(low + step)) {
      low += step;
      step *= 2;
    }
    // From here on high fits, and low does not.
    std::int64_t high = low + step;
    while (high - low > 1 + high / kChunkPrecision) {
      const std::int64_t middle = low + (high - low) / 2;
      (fits(middle) ? high : low) = middle;
    }
    return high;
  }

 private:
  /// Whether no line has more to do than there are rounds. What is small depends on the chunk, so it is found anew.
  bool fits(std::int64_t chunk_bytes) {
    Rounds rounds;
    rounds.chunk_bytes = chunk_bytes;
    std::fill(chunks_.begin(), chunks_.end(), 0);
    std::fill(small_bytes_.begin(), small_bytes_.end(), 0);
    for (const Entry& entry : entries_) {
      if (rounds.is_small(entry)) {
        add(entry, entry.bytes, &small_bytes_);
      } else {
        add(entry, num_chunks(rounds, entry), &chunks_);
      }
    }
    for (std::size_t i = 0; i < chunks_.size(); ++i) {
      // Small entries take no edges, but the time of as many chunks as their bytes make together.
      if (chunks_[i] + small_bytes_[i] / chunk_bytes * kOneChunk > limit_ * kOneChunk) return false;
    }
    return true;
  }

  void add(const Entry& entry, std::int64_t amount, std::vector<std::int64_t>* sums) const {
    at(*sums, entry.src) += amount;
    at(*sums, num_src_ + entry.dst) += amount;
  }

  const std::vector<Entry>& entries_;
  std::int32_t num_src_;
  std::int64_t limit_;
  std::vector<std::int64_t> chunks_;       // per line, in 256ths, of entries that are not small
  std::vector<std::int64_t> small_bytes_;  // per line
};

/// Indices of the edges whose multiplicity has this bit.
void choose(const std::vector<Edge>& edges, int bit, std::vector<std::int32_t>* chosen) {
  chosen->clear();
  for (std::size_t i = 0; i < edges.size(); ++i) {
    if ((edges[i].multiplicity >> bit & 1) != 0) chosen->push_back(static_cast<std::int32_t>(i));
  }
}

/// From 256ths to whole chunks, bit by bit from the lowest: an edge that has the bit goes up or down by it, and after
/// the last of the eight is whole. An Euler split says which way, so that half of those on a line go each way: the sum
/// of a line moves by less than 1/256 + 1/128 + ... + 1/2 in all, and its chunks still fit the rounds. Rounded each for
/// itself, sixty entries of a line could all go up.
void round_chunks(std::vector<Edge>* edges, EulerSplit* split) {
  std::vector<std::int32_t> chosen;
  for (int bit = 0; bit < kFractionBits; ++bit) {
    choose(*edges, bit, &chosen);
    const std::vector<std::int16_t>& sides = split->sides(*edges, chosen);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      at(*edges, chosen[i]).multiplicity += sides[i] != 0 ? 1 << bit : -(1 << bit);
    }
  }
  for (Edge& edge : *edges) edge.multiplicity >>= kFractionBits;
}

/// Halves a multigraph until only matchings are left: depth first, so that matchings come in the order of their rounds.
/// Each depth has one pair of halves, for those of a depth are done with before its next pair is made.
class Halver {
 public:
  Halver(EulerSplit* split, int log2_rounds, Rounds* rounds)
      : split_(split), halves_(static_cast<std::size_t>(log2_rounds)), cursor_(rounds->first), rounds_(rounds) {}

  /// @pre no line has more than 2^(halves_.size() - depth) edges, parallel ones counted; at the last depth, one
  void halve_to(const std::vector<Edge>& edges, std::size_t depth) {
    if (edges.empty()) return;
    if (depth == halves_.size()) {
      // A matching is a round. Rounds are met in ascending order, so that the numbers of an entry ascend as well.
      for (const Edge& edge : edges) at(rounds_->numbers, at(cursor_, edge.entry)++) = rounds_->num_rounds;
      ++rounds_->num_rounds;
      return;
    }
    halve(edges, &halves_[depth]);
    for (const std::vector<Edge>& half : halves_[depth]) halve_to(half, depth + 1);
  }

 private:
  using Halves = std::array<std::vector<Edge>, 2>;

  void halve(const std::vector<Edge>& edges, Halves* halves) {
    choose(edges, 0, &odd_);
    auto side = split_->sides(edges, odd_).begin();
    for (std::vector<Edge>& half : *halves) half.clear();
    for (const Edge& edge : edges) {
      std::array<std::int32_t, 2> parts{edge.multiplicity / 2, edge.multiplicity / 2};
      // Even parts halve by themselves; only odd ones are edges of the Euler split, which balances them on every line.
      if (edge.multiplicity % 2 != 0) ++at(parts, *side++);
      for (std::size_t i = 0; i < parts.size(); ++i) {
        if (parts[i] > 0) (*halves)[i].push_back({edge.entry, parts[i], edge.ends});
      }
    }
  }

  EulerSplit* split_;
  std::vector<Halves> halves_;        // per depth
  std::vector<std::int64_t> cursor_;  // per entry: where its next number goes
  Rounds* rounds_;
  std::vector<std::int32_t> odd_;
};

/// `small` are indices of entries; each has one slot. A sender's n small ones go to the middles of n equal parts of all
/// rounds.
void place_small(const std::vector<Entry>& entries, std::vector<std::int32_t> small, std::int32_t num_lines,
                 Rounds* rounds) {
  // In a circle from each sender on, so that the small ones of many senders do not meet at one receiver.
  const auto shift = [&](const Entry& entry) { return (entry.dst - entry.src + num_lines) % num_lines; };
  std::sort(small.begin(), small.end(), [&](std::int32_t a, std::int32_t b) {
    const Entry& x = at(entries, a);
    const Entry& y = at(entries, b);
    if (x.src != y.src) return x.src < y.src;
    return shift(x) != shift(y) ? shift(x) < shift(y) : a < b;
  });
  rounds->num_rounds = std::max(rounds->num_rounds, small.empty() ? 0 : 1);
  for (std::size_t begin = 0; begin < small.size();) {
    std::size_t end = begin;
    while (end < small.size() && at(entries, small[end]).src == at(entries, small[begin]).src) ++end;
    const auto count = static_cast<std::int64_t>(end - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      at(rounds->numbers, at(rounds->first, small[begin++])) =
          static_cast<std::int32_t>((2 * i + 1) * rounds->num_rounds / (2 * count));
    }
  }
}

}  // namespace

/// Chunks of an entry are known once they are rounded: then `first` turns from numbers of rounds into places, by sums.
Rounds colour(const std::vector<Entry>& entries, std::int32_t num_src, std::int32_t num_dst, int log2_rounds) {
  Rounds rounds;
  rounds.chunk_bytes = Lines(entries, num_src, num_dst, log2_rounds).chunk_bytes();
  EulerSplit split(num_src, num_dst);
  std::vector<Edge> edges;
  std::vector<std::int32_t> small;
  rounds.first.assign(entries.size() + 1, 0);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto chunks = static_cast<std::int32_t>(num_chunks(rounds, entries[i]));
    const auto index = static_cast<std::int32_t>(i);
    if (chunks > 0) edges.push_back({index, chunks, {entries[i].src, entries[i].dst}});
    if (!rounds.is_small(entries[i])) continue;
    small.push_back(index);
    rounds.first[i + 1] = 1;
  }
  round_chunks(&edges, &split);
  for (const Edge& edge : edges) at(rounds.first, edge.entry + 1) = edge.multiplicity;
  for (std::size_t i = 0; i < entries.size(); ++i) rounds.first[i + 1] += rounds.first[i];
  rounds.numbers.resize(static_cast<std::size_t>(rounds.first.back()));
  Halver(&split, log2_rounds, &rounds).halve_to(edges, 0);
  place_small(entries, std::move(small), std::max(num_src, num_dst), &rounds);
  return rounds;
}

}  // namespace reshard
