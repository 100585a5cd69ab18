// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Rows with ordinary stores. Short rows are free of calls, as a call costs as much as 64 bytes; from 128 bytes on
// stores are aligned and only the ends overlap. Limited by loads and stores in the second-level cache, else by memory:
// then the lines of later rows are asked for early, since the processor's own prefetchers start anew at every row and
// fetch the gap behind each (512-byte rows of 1024: 0.7 of a plain copy without, 0.9 with).
#include "kernels/x86.h"

#if defined(__x86_64__)
namespace reshard {
namespace {

using namespace x86;

constexpr std::int64_t kBlockBytes = 4 * kVectorBytes;
constexpr std::int64_t kLibraryBytes = 16384;  // from here on the library's copy is as fast

// The lines of the rows ahead that correspond to the block at hand.
inline void prefetch_block(const Piece& piece, const std::byte* dst, const std::byte* src) {
  prefetch(src + piece.src_ahead_bytes);
  prefetch(src + piece.src_ahead_bytes + kLineBytes);
  prefetch(dst + piece.dst_ahead_bytes);
  prefetch(dst + piece.dst_ahead_bytes + kLineBytes);
}

// Rows of kEnds to 2 * kEnds vectors: kEnds vectors from each end, which may overlap.
template <int kEnds, bool kAhead>
RESHARD_AVX2 void copy_ends(Piece piece) {
  const std::int64_t tail = piece.cols.extent - kEnds * kVectorBytes;
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    if constexpr (kAhead) {
      prefetch(src + piece.src_ahead_bytes);
      prefetch(dst + piece.dst_ahead_bytes);
    }
    __m256i first[std::size_t{kEnds}];
    __m256i last[std::size_t{kEnds}];
    for (int i = 0; i < kEnds; ++i) first[i] = load(src + i * kVectorBytes);
    for (int i = 0; i < kEnds; ++i) last[i] = load(src + tail + i * kVectorBytes);
    for (int i = 0; i < kEnds; ++i) store(dst + i * kVectorBytes, first[i]);
    for (int i = 0; i < kEnds; ++i) store(dst + tail + i * kVectorBytes, last[i]);
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

// 128 bytes.
RESHARD_AVX2 inline void copy_block(std::byte* dst, const std::byte* src) {
  const __m256i a = load(src);
  const __m256i b = load(src + kVectorBytes);
  const __m256i c = load(src + 2 * kVectorBytes);
  const __m256i d = load(src + 3 * kVectorBytes);
  store(dst, a);
  store(dst + kVectorBytes, b);
  store(dst + 2 * kVectorBytes, c);
  store(dst + 3 * kVectorBytes, d);
}

// Aligned stores between each row's first vector and its last block, which overlap them.
template <bool kAhead>
RESHARD_AVX2 void copy_block_rows(Piece piece) {
  const std::int64_t last = piece.cols.extent - kBlockBytes;
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    std::int64_t at = bytes_before_multiple(dst, kVectorBytes);
    if (at != 0) store(dst, load(src));
    for (; at < last; at += kBlockBytes) {
      if constexpr (kAhead) prefetch_block(piece, dst + at, src + at);
      copy_block(dst + at, src + at);
    }
    if constexpr (kAhead) prefetch_block(piece, dst + last, src + last);
    copy_block(dst + last, src + last);
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

template <bool kAhead>
void copy_rows_with(Piece piece) {
  if (piece.cols.extent <= 2 * kVectorBytes) return copy_ends<1, kAhead>(piece);
  if (piece.cols.extent <= 4 * kVectorBytes) return copy_ends<2, kAhead>(piece);
  copy_block_rows<kAhead>(piece);
}

void copy_rows(Piece piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  if (row_bytes < kVectorBytes || row_bytes >= kLibraryBytes) return generic_row_kernels().copy_cached(piece);
  piece.src_ahead_bytes != 0 ? copy_rows_with<true>(piece) : copy_rows_with<false>(piece);
}

void prefetch_rows(Piece piece) {
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::byte* const src = piece.src + row * piece.rows.src_stride;
    for (std::int64_t at = 0; at < piece.cols.extent; at += kLineBytes) prefetch(src + at);
  }
}

}  // namespace

void set_copy_avx2(RowKernels* kernels) {
  kernels->copy_cached = copy_rows;
  kernels->prefetch = prefetch_rows;
}

}  // namespace reshard
#endif
