// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: runs of bytes that are contiguous on both sides, of any alignment; or zeros into them.
// Mapping: the 16-byte vectors of all rows of the part, one after another, are dealt to the threads in turn, so that a
// warp reads and writes whole sectors of 32 bytes. Each thread has four loads under way before its first store.
// Limiter: memory. Rows that are not aligned alike on both sides load every vector from the two aligned ones it lies
// in, of which the second is in the first-level cache.
#ifndef RESHARD_KERNELS_CUDA_ROWS_CUH
#define RESHARD_KERNELS_CUDA_ROWS_CUH

#include <cstdint>

#include "kernels/cuda/part.cuh"

namespace reshard::cuda {

inline constexpr std::uint32_t kVectorBytes = 16;
inline constexpr int kVectorsPerThread = 4;

/// @pre addresses and lengths of all rows are multiples of 16
template <bool kIsFill>
__device__ __forceinline__ void move_aligned_rows(const Part& part, const Team& team) {
  const std::uint32_t row_vectors = part.num_cols() / kVectorBytes;
  const Divisor per_row(row_vectors);
  const std::uint32_t num_vectors = part.num_rows() * row_vectors;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_vectors; first += kVectorsPerThread * team.size) {
    uint4 words[kVectorsPerThread];
    std::uint64_t targets[kVectorsPerThread];
#pragma unroll
    for (int i = 0; i < kVectorsPerThread; ++i) {
      const std::uint32_t index = first + static_cast<std::uint32_t>(i) * team.size;
      const std::uint32_t row = per_row.quotient(index);
      const Place place = part.row(row);
      const std::uint32_t offset = per_row.rest(index, row) * kVectorBytes;
      words[i] = load_if<16>(!kIsFill && index < num_vectors, place.src + offset);
      targets[i] = place.dst + offset;
    }
#pragma unroll
    for (int i = 0; i < kVectorsPerThread; ++i) {
      store_if<16>(first + static_cast<std::uint32_t>(i) * team.size < num_vectors, targets[i], words[i]);
    }
  }
}

/// How a row of any alignment is moved: from `begin` on as vectors, aligned in the destination, as long as they and
/// what must be read for them lie in the row; what is before and behind in small words. A vector's source lies in two
/// aligned vectors, both of which must lie in the row, so that nothing is read that is not copied.
struct RowSplit {
  std::uint32_t shift;  ///< bytes by which the source of a vector is off: where it begins in the lower one
  std::uint32_t begin;
  std::uint32_t needed;  ///< bytes of the row that a vector needs from its first on

  __device__ __forceinline__ explicit RowSplit(const Place& row) {
    const auto head = static_cast<std::uint32_t>(0 - row.dst) & (kVectorBytes - 1);
    shift = (static_cast<std::uint32_t>(row.src) + head) & (kVectorBytes - 1);
    // The lower vector begins `shift` bytes before.
    begin = shift > head ? head + kVectorBytes : head;
    needed = shift == 0 ? kVectorBytes : 2 * kVectorBytes - shift;
  }

  /// Where the vectors end, `begin` or behind it.
  __device__ __forceinline__ std::uint32_t end(std::uint32_t num_bytes) const {
    const bool has_any = num_bytes >= begin + needed;
    return has_any ? begin + kVectorBytes + ((num_bytes - begin - needed) & ~(kVectorBytes - 1)) : begin;
  }
};

/// Bytes [shift, shift + 16) of two vectors.
__device__ __forceinline__ uint4 extract(const uint4& low, const uint4& high, std::uint32_t shift) {
  // By whole words first, by two and by one; then all words by the bytes that are left.
  const bool by_two = (shift & 8) != 0;
  const bool by_one = (shift & 4) != 0;
  const std::uint32_t a0 = by_two ? low.z : low.x;
  const std::uint32_t a1 = by_two ? low.w : low.y;
  const std::uint32_t a2 = by_two ? high.x : low.z;
  const std::uint32_t a3 = by_two ? high.y : low.w;
  const std::uint32_t a4 = by_two ? high.z : high.x;
  const std::uint32_t a5 = by_two ? high.w : high.y;
  const std::uint32_t b0 = by_one ? a1 : a0;
  const std::uint32_t b1 = by_one ? a2 : a1;
  const std::uint32_t b2 = by_one ? a3 : a2;
  const std::uint32_t b3 = by_one ? a4 : a3;
  const std::uint32_t b4 = by_one ? a5 : a4;
  const std::uint32_t bits = (shift & 3) * 8;
  return {funnel_shift(b0, b1, bits), funnel_shift(b1, b2, bits), funnel_shift(b2, b3, bits),
          funnel_shift(b3, b4, bits)};
}

/// The bodies of all rows.
template <bool kIsFill>
__device__ __forceinline__ void move_bodies(const Part& part, const Team& team) {
  constexpr int kPairs = kVectorsPerThread / 2;
  const std::uint32_t row_vectors = part.num_cols() / kVectorBytes;  // no body has more
  if (row_vectors == 0) return;
  const Divisor per_row(row_vectors);
  const std::uint32_t num_vectors = part.num_rows() * row_vectors;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_vectors; first += kPairs * team.size) {
    uint4 low[kPairs];
    uint4 high[kPairs];
    std::uint64_t targets[kPairs];  // 0: none
    std::uint32_t shifts[kPairs];
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const std::uint32_t index = first + static_cast<std::uint32_t>(i) * team.size;
      const std::uint32_t row = per_row.quotient(index);
      const Place place = part.row(row);
      const RowSplit split(place);
      const std::uint32_t offset = split.begin + per_row.rest(index, row) * kVectorBytes;
      const bool is_active = index < num_vectors && offset + split.needed <= part.num_cols();
      const std::uint64_t from = place.src + offset - split.shift;
      low[i] = load_if<16>(!kIsFill && is_active, from);
      high[i] = load_if<16>(!kIsFill && is_active && split.shift != 0, from + kVectorBytes);
      targets[i] = is_active ? place.dst + offset : 0;
      shifts[i] = split.shift;
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      store_if<16>(targets[i] != 0, targets[i], extract(low[i], high[i], shifts[i]));
    }
  }
}

/// What is before and behind the bodies, in words of kBytes, which divides all addresses and lengths.
template <int kBytes, bool kIsFill>
__device__ __forceinline__ void move_edges(const Part& part, const Team& team) {
  constexpr std::uint32_t kMaxEdgeBytes = 64;  // up to 31 before and 30 behind; or all of a row without a body
  constexpr int kWordsPerThread = 4;
  const std::uint32_t num_bytes = part.num_cols();
  const std::uint32_t row_words = (num_bytes < kMaxEdgeBytes ? num_bytes : kMaxEdgeBytes) / kBytes;
  const Divisor per_row(row_words);
  const std::uint32_t num_words = part.num_rows() * row_words;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_words; first += kWordsPerThread * team.size) {
    Word<kBytes> words[kWordsPerThread];
    std::uint64_t targets[kWordsPerThread];  // 0: none
#pragma unroll
    for (int i = 0; i < kWordsPerThread; ++i) {
      const std::uint32_t index = first + static_cast<std::uint32_t>(i) * team.size;
      const std::uint32_t row = per_row.quotient(index);
      const Place place = part.row(row);
      const RowSplit split(place);
      std::uint32_t offset = per_row.rest(index, row) * kBytes;
      if (offset >= split.begin) offset += split.end(num_bytes) - split.begin;
      const bool is_active = index < num_words && offset < num_bytes;
      words[i] = load_if<kBytes>(!kIsFill && is_active, place.src + offset);
      targets[i] = is_active ? place.dst + offset : 0;
    }
#pragma unroll
    for (int i = 0; i < kWordsPerThread; ++i) store_if<kBytes>(targets[i] != 0, targets[i], words[i]);
  }
}

template <bool kIsFill>
__device__ __forceinline__ void move_rows(const Part& part, const Team& team) {
  const std::uint32_t bits = part.src_bits() | part.dst_bits() | part.num_cols();
  if ((bits & 15) == 0) return move_aligned_rows<kIsFill>(part, team);
  move_bodies<kIsFill>(part, team);
  if ((bits & 7) == 0) {
    move_edges<8, kIsFill>(part, team);
  } else if ((bits & 3) == 0) {
    move_edges<4, kIsFill>(part, team);
  } else if ((bits & 1) == 0) {
    move_edges<2, kIsFill>(part, team);
  } else {
    move_edges<1, kIsFill>(part, team);
  }
}

}  // namespace reshard::cuda

#endif
