// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Rows with non-temporal stores, a whole cache line at a time. The ends of a row that share a line with something else
// take ordinary stores; mixing both kinds within a line would cost a read of it. Limited by memory.
#include <cstring>

#include "kernels/x86.h"

#if defined(__x86_64__)
namespace reshard {
namespace {

using namespace x86;

RESHARD_AVX2 inline void stream(std::byte* to, __m256i value) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value);
}

RESHARD_AVX2 inline void stream_line(std::byte* dst, const std::byte* src) {
  const __m256i low = load(src);
  const __m256i high = load(src + kVectorBytes);
  stream(dst, low);
  stream(dst + kVectorBytes, high);
}

// The whole lines of a row from `at` on, where a line begins; the end of the last one.
RESHARD_AVX2 inline std::int64_t stream_lines(Piece piece, std::byte* dst, const std::byte* src, std::int64_t at) {
  for (; at + kLineBytes <= piece.cols.extent; at += kLineBytes) {
    prefetch(src + at + piece.src_ahead_bytes);
    stream_line(dst + at, src + at);
  }
  return at;
}

inline void copy_short(std::byte* dst, const std::byte* src, std::int64_t num_bytes) {
  std::memcpy(dst, src, static_cast<std::size_t>(num_bytes));
}

void stream_separate_rows(Piece piece) {
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::int64_t head = bytes_before_multiple(dst, kLineBytes);
    copy_short(dst, src, head);
    const std::int64_t end = stream_lines(piece, dst, src, head);
    copy_short(dst + end, src + end, piece.cols.extent - end);
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

RESHARD_AVX2 inline void copy_line(std::byte* dst, const std::byte* src) {
  const __m256i low = load(src);
  const __m256i high = load(src + kVectorBytes);
  store(dst, low);
  store(dst + kVectorBytes, high);
}

// Rows that follow each other in the destination: where two meet within a line, the line is put together first.
// @pre rows of at least a line
RESHARD_AVX2 void stream_adjacent_rows(Piece piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  // The shared line is the middle one, the others take what is over.
  alignas(kLineBytes) std::byte lines[3 * kLineBytes];
  std::byte* const shared = lines + kLineBytes;
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  std::int64_t at = bytes_before_multiple(dst, kLineBytes);
  copy_short(dst, src, at);
  for (std::int64_t row = 1;; ++row) {
    at = stream_lines(piece, dst, src, at);
    const std::int64_t tail = row_bytes - at;
    if (row == piece.rows.extent) return copy_short(dst + at, src + at, tail);
    copy_line(shared + tail - kLineBytes, src + row_bytes - kLineBytes);
    src += piece.rows.src_stride;
    dst += row_bytes;
    if (tail != 0) {
      copy_line(shared + tail, src);
      stream_line(dst - tail, shared);
    }
    at = tail == 0 ? 0 : kLineBytes - tail;
  }
}

void stream_rows(Piece piece) {
  if (piece.cols.extent < kLineBytes) return generic_row_kernels().copy_cached(piece);
  const bool are_adjacent = piece.rows.extent > 1 && piece.rows.dst_stride == piece.cols.extent;
  if (are_adjacent) return stream_adjacent_rows(piece);
  if (piece.cols.extent < 2 * kLineBytes) return generic_row_kernels().copy_cached(piece);
  stream_separate_rows(piece);
}

RESHARD_AVX2 void stream_zero_row(std::byte* dst, std::int64_t num_bytes) {
  const std::int64_t head = bytes_before_multiple(dst, kLineBytes);
  std::memset(dst, 0, static_cast<std::size_t>(head));
  std::int64_t at = head;
  for (; at + kLineBytes <= num_bytes; at += kLineBytes) {
    stream(dst + at, _mm256_setzero_si256());
    stream(dst + at + kVectorBytes, _mm256_setzero_si256());
  }
  std::memset(dst + at, 0, static_cast<std::size_t>(num_bytes - at));
}

void stream_zero_rows(Piece piece) {
  if (piece.cols.extent < 2 * kLineBytes) return generic_row_kernels().fill_cached(piece);
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    stream_zero_row(piece.dst + row * piece.rows.dst_stride, piece.cols.extent);
  }
}

void store_fence() {
  _mm_sfence();
}

}  // namespace

void set_stream_avx2(RowKernels* kernels) {
  kernels->copy_streaming = stream_rows;
  kernels->fill_streaming = stream_zero_rows;
  kernels->fence = store_fence;
}

}  // namespace reshard
#endif
