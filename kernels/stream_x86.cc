// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Rows with non-temporal stores, a whole cache line at a time. The ends of a row that share a line with something else
// take ordinary stores; mixing both kinds within a line would cost a read of it. Limited by memory.
#include <algorithm>
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

// Rows are moved side by side, a step of each in turn. The processor's prefetchers follow some streams at once, and
// begin anew with each row: one row after the other leaves them and the memory idle between. More than 8 at once evict
// each other, for lines that are pages apart share a set of the first-level cache.
constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kStepBytes = 2 * kLineBytes;
// Shorter rows with something left at their ends are moved as fast one by one.
constexpr std::int64_t kLeastBytesWithEnds = 2048;

// What is moved side by side: `num_parts` parts of `part_bytes` of each of `num_rows` rows.
struct Lanes {
  std::int64_t num_rows;
  std::int64_t num_parts;
  std::int64_t part_bytes;
};

// From each row's first whole line of the destination on. Not unrolled over the rows: a prefetcher that knows loads by
// their instruction would take each row for a stream without end, and fetch the gap behind it (rows of 512 bytes on an
// AMD EPYC: 0.62 of a plain copy unrolled, 0.72 so).
RESHARD_AVX2 void stream_lanes(const Piece& piece, const Lanes& lanes, std::byte* dst, const std::byte* src) {
  const std::int64_t ahead = piece.src_ahead_bytes;
  const std::int64_t row_bytes = lanes.num_parts * lanes.part_bytes;
  for (std::int64_t step = 0; step < lanes.part_bytes; step += kStepBytes) {
    for (std::int64_t at = step; at < row_bytes; at += lanes.part_bytes) {
      const std::byte* from = src + at;
      std::byte* to = dst + at;
#pragma GCC unroll 1
      for (std::int64_t row = 0; row < lanes.num_rows; ++row) {
        const std::int64_t head = bytes_before_multiple(to, kLineBytes);
        prefetch(from + head + ahead);
        prefetch(from + head + ahead + kLineBytes);
        stream_line(to + head, from + head);
        stream_line(to + head + kLineBytes, from + head + kLineBytes);
        from += piece.rows.src_stride;
        to += piece.rows.dst_stride;
      }
    }
  }
}

// The next rows, kLanes at most, from each one's first whole line of the destination on; how many bytes of each.
// @pre num_rows >= 1
std::int64_t stream_side_by_side(const Piece& piece, std::int64_t num_rows, std::byte* dst, const std::byte* src) {
  Lanes lanes = {std::min(kLanes, num_rows), 1, 0};
  std::int64_t most_before = 0;
  for (std::int64_t row = 0; row < lanes.num_rows; ++row) {
    most_before = std::max(most_before, bytes_before_multiple(dst + row * piece.rows.dst_stride, kLineBytes));
  }
  // Few rows are cut into parts, of half a page at least.
  const std::int64_t most_bytes = piece.cols.extent - most_before;
  lanes.num_parts = std::clamp<std::int64_t>(most_bytes / 2048, 1, kLanes / lanes.num_rows);
  lanes.part_bytes = most_bytes / lanes.num_parts & ~(kStepBytes - 1);
  stream_lanes(piece, lanes, dst, src);
  return lanes.num_parts * lanes.part_bytes;
}

// Rows of whole steps at whole lines of the destination, as most are: nothing is left at their ends.
bool consists_of_whole_lines(const Piece& piece) {
  return bytes_before_multiple(piece.dst, kLineBytes) == 0 && piece.rows.dst_stride % kLineBytes == 0 &&
         piece.cols.extent % kStepBytes == 0;
}

void stream_whole_lines(const Piece& piece) {
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; row += kLanes) {
    const std::int64_t num_rows = std::min(kLanes, piece.rows.extent - row);
    const std::int64_t done = stream_side_by_side(piece, num_rows, dst, src);
    for (std::int64_t i = 0; i < num_rows; ++i) {
      if (done != piece.cols.extent) stream_lines(piece, dst, src, done);
      src += piece.rows.src_stride;
      dst += piece.rows.dst_stride;
    }
  }
}

void stream_separate_rows(Piece piece) {
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  const bool is_long = piece.cols.extent >= kLeastBytesWithEnds;
  std::int64_t done = 0;  // bytes of whole lines of the rows at hand
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    if (is_long && row % kLanes == 0) done = stream_side_by_side(piece, piece.rows.extent - row, dst, src);
    const std::int64_t head = bytes_before_multiple(dst, kLineBytes);
    copy_short(dst, src, head);
    const std::int64_t end = stream_lines(piece, dst, src, head + done);
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
  const bool is_long = piece.cols.extent >= kLeastBytesWithEnds;
  std::int64_t done = 0;  // bytes of whole lines of the rows at hand
  for (std::int64_t row = 0;; ++row) {
    if (is_long && row % kLanes == 0) done = stream_side_by_side(piece, piece.rows.extent - row, dst, src);
    at = stream_lines(piece, dst, src, at + done);
    const std::int64_t tail = row_bytes - at;
    if (row + 1 == piece.rows.extent) return copy_short(dst + at, src + at, tail);
    const std::byte* const row_end = src + row_bytes;
    src += piece.rows.src_stride;
    dst += row_bytes;
    at = 0;
    if (tail == 0) continue;
    copy_line(shared + tail - kLineBytes, row_end - kLineBytes);
    copy_line(shared + tail, src);
    stream_line(dst - tail, shared);
    at = kLineBytes - tail;
  }
}

void stream_rows(Piece piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  if (row_bytes < kLineBytes) return generic_row_kernels().copy_cached(piece);
  if (consists_of_whole_lines(piece)) return stream_whole_lines(piece);
  const bool are_adjacent = piece.rows.extent > 1 && piece.rows.dst_stride == row_bytes;
  if (are_adjacent) return stream_adjacent_rows(piece);
  if (row_bytes < 2 * kLineBytes) return generic_row_kernels().copy_cached(piece);
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
