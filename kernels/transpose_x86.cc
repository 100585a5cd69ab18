// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Transposes of one piece: row r, column c of the destination is element r of the source's line c. Square blocks are
// turned in registers; what does not fill a block goes element by element. The caller keeps pieces within the first
// cache and puts a dense tile at the destination, since lines a power of two apart would evict each other there.
#include "kernels/rows.h"
#include "kernels/x86.h"

#if defined(__x86_64__)
namespace reshard {
namespace {

// Turns one kBlock x kBlock block.
using BlockFn = void (*)(std::byte* dst, std::int64_t dst_stride, const std::byte* src, std::int64_t src_stride);

RESHARD_AVX2 inline __m128i load8(const std::byte* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}
RESHARD_AVX2 inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
RESHARD_AVX2 inline void store16(std::byte* to, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value);
}

RESHARD_AVX2 inline void block_8bit(std::byte* dst, std::int64_t dst_stride, const std::byte* src,
                                    std::int64_t src_stride) {
  __m128i pairs[4];  // lines 2i and 2i+1 interleaved
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm_unpacklo_epi8(load8(src + 2 * i * src_stride), load8(src + (2 * i + 1) * src_stride));
  }
  const __m128i low[2] = {_mm_unpacklo_epi16(pairs[0], pairs[1]), _mm_unpacklo_epi16(pairs[2], pairs[3])};
  const __m128i high[2] = {_mm_unpackhi_epi16(pairs[0], pairs[1]), _mm_unpackhi_epi16(pairs[2], pairs[3])};
  const __m128i rows[4] = {_mm_unpacklo_epi32(low[0], low[1]), _mm_unpackhi_epi32(low[0], low[1]),
                           _mm_unpacklo_epi32(high[0], high[1]), _mm_unpackhi_epi32(high[0], high[1])};
  for (int i = 0; i < 4; ++i) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst + 2 * i * dst_stride), rows[i]);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst + (2 * i + 1) * dst_stride), _mm_unpackhi_epi64(rows[i], rows[i]));
  }
}

RESHARD_AVX2 inline void block_16bit(std::byte* dst, std::int64_t dst_stride, const std::byte* src,
                                     std::int64_t src_stride) {
  __m128i pairs[8];  // [2i], [2i+1]: low and high half of lines 2i and 2i+1 interleaved
  for (int i = 0; i < 4; ++i) {
    const __m128i even = load16(src + 2 * i * src_stride);
    const __m128i odd = load16(src + (2 * i + 1) * src_stride);
    pairs[2 * i] = _mm_unpacklo_epi16(even, odd);
    pairs[2 * i + 1] = _mm_unpackhi_epi16(even, odd);
  }
  for (int half = 0; half < 2; ++half) {
    const __m128i low[2] = {_mm_unpacklo_epi32(pairs[half], pairs[half + 2]),
                            _mm_unpacklo_epi32(pairs[half + 4], pairs[half + 6])};
    const __m128i high[2] = {_mm_unpackhi_epi32(pairs[half], pairs[half + 2]),
                             _mm_unpackhi_epi32(pairs[half + 4], pairs[half + 6])};
    std::byte* const to = dst + 4 * half * dst_stride;
    store16(to, _mm_unpacklo_epi64(low[0], low[1]));
    store16(to + dst_stride, _mm_unpackhi_epi64(low[0], low[1]));
    store16(to + 2 * dst_stride, _mm_unpacklo_epi64(high[0], high[1]));
    store16(to + 3 * dst_stride, _mm_unpackhi_epi64(high[0], high[1]));
  }
}

// Lines `line` and `line + 4` side by side, four elements of each: the halves that a lane-wise unpack keeps apart.
RESHARD_AVX2 inline __m256 load_lanes(const std::byte* src, std::int64_t src_stride, int line) {
  const auto* const low = reinterpret_cast<const float*>(src + line * src_stride);
  const auto* const high = reinterpret_cast<const float*>(src + (line + 4) * src_stride);
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

RESHARD_AVX2 inline void block_32bit(std::byte* dst, std::int64_t dst_stride, const std::byte* src,
                                     std::int64_t src_stride) {
  for (int half = 0; half < 2; ++half) {
    const std::byte* const from = src + half * 16;
    const __m256 lines[4] = {load_lanes(from, src_stride, 0), load_lanes(from, src_stride, 1),
                             load_lanes(from, src_stride, 2), load_lanes(from, src_stride, 3)};
    const __m256d low[2] = {_mm256_castps_pd(_mm256_unpacklo_ps(lines[0], lines[1])),
                            _mm256_castps_pd(_mm256_unpacklo_ps(lines[2], lines[3]))};
    const __m256d high[2] = {_mm256_castps_pd(_mm256_unpackhi_ps(lines[0], lines[1])),
                             _mm256_castps_pd(_mm256_unpackhi_ps(lines[2], lines[3]))};
    const __m256d rows[4] = {_mm256_unpacklo_pd(low[0], low[1]), _mm256_unpackhi_pd(low[0], low[1]),
                             _mm256_unpacklo_pd(high[0], high[1]), _mm256_unpackhi_pd(high[0], high[1])};
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_pd(reinterpret_cast<double*>(dst + (4 * half + i) * dst_stride), rows[i]);
    }
  }
}

RESHARD_AVX2 inline void block_64bit(std::byte* dst, std::int64_t dst_stride, const std::byte* src,
                                     std::int64_t src_stride) {
  __m256d lines[4];
  for (int i = 0; i < 4; ++i) lines[i] = _mm256_loadu_pd(reinterpret_cast<const double*>(src + i * src_stride));
  const __m256d low[2] = {_mm256_unpacklo_pd(lines[0], lines[1]), _mm256_unpacklo_pd(lines[2], lines[3])};
  const __m256d high[2] = {_mm256_unpackhi_pd(lines[0], lines[1]), _mm256_unpackhi_pd(lines[2], lines[3])};
  const __m256d rows[4] = {_mm256_permute2f128_pd(low[0], low[1], 0x20), _mm256_permute2f128_pd(high[0], high[1], 0x20),
                           _mm256_permute2f128_pd(low[0], low[1], 0x31),
                           _mm256_permute2f128_pd(high[0], high[1], 0x31)};
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(reinterpret_cast<double*>(dst + i * dst_stride), rows[i]);
}

// The columns from `begin` on, element by element; likewise the rows.
void transpose_rest(Piece piece, std::int64_t whole_cols, std::int64_t whole_rows, std::int64_t element_bytes) {
  const PieceFn strided = generic_row_kernels().strided[RowKernels::index_of_size(element_bytes)];
  if (whole_cols < piece.cols.extent) {
    Piece right = piece;
    right.src += whole_cols * piece.cols.src_stride;
    right.dst += whole_cols * piece.cols.dst_stride;
    right.cols.extent -= whole_cols;
    strided(right);
  }
  if (whole_rows < piece.rows.extent && whole_cols > 0) {
    Piece below = piece;
    below.src += whole_rows * piece.rows.src_stride;
    below.dst += whole_rows * piece.rows.dst_stride;
    below.rows.extent -= whole_rows;
    below.cols.extent = whole_cols;
    strided(below);
  }
}

template <std::int64_t kBlock, std::int64_t kElementBytes, BlockFn kTurn>
RESHARD_AVX2 void transpose(Piece piece) {
  const std::int64_t whole_cols = piece.cols.extent - piece.cols.extent % kBlock;
  const std::int64_t whole_rows = piece.rows.extent - piece.rows.extent % kBlock;
  for (std::int64_t col = 0; col < whole_cols; col += kBlock) {
    const std::byte* const lines = piece.src + col * piece.cols.src_stride;
    std::byte* const to = piece.dst + col * kElementBytes;
    for (std::int64_t row = 0; row < whole_rows; row += kBlock) {
      kTurn(to + row * piece.rows.dst_stride, piece.rows.dst_stride, lines + row * kElementBytes,
            piece.cols.src_stride);
    }
  }
  transpose_rest(piece, whole_cols, whole_rows, kElementBytes);
}

}  // namespace

void set_transpose_avx2(RowKernels* kernels) {
  kernels->transpose[0] = transpose<8, 1, block_8bit>;
  kernels->transpose[1] = transpose<8, 2, block_16bit>;
  kernels->transpose[2] = transpose<8, 4, block_32bit>;
  kernels->transpose[3] = transpose<4, 8, block_64bit>;
}

}  // namespace reshard
#endif
