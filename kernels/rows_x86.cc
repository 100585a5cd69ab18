// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Row kernels with AVX2 and F16C. Cached copies keep short rows free of calls, as a call costs as much as 64 bytes.
// Streaming copies write whole cache lines with non-temporal stores and the ends of a row, where they share a line with
// something else, with ordinary ones: mixing both kinds within a line costs a read of that line.
#include "kernels/x86.h"

#include <algorithm>
#include <cstring>

#include "kernels/rows.h"

namespace reshard {

#if defined(__x86_64__)
namespace {

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kVectorBytes = 32;
constexpr std::int64_t kLibraryBytes = 4096;  // from here on the library's copy is at least as fast

inline std::int64_t bytes_before_multiple(const std::byte* address, std::int64_t multiple) {
  return -reinterpret_cast<std::intptr_t>(address) & (multiple - 1);
}

RESHARD_AVX2 inline __m256i load(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
RESHARD_AVX2 inline void store(std::byte* to, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}
RESHARD_AVX2 inline void stream(std::byte* to, __m256i value) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value);
}

// Asks for one line of the source, and of the destination, that the rows ahead will use.
RESHARD_AVX2 inline void prefetch(const Piece& piece, const std::byte* src, const std::byte* dst) {
  if (piece.src_ahead_bytes != 0) {
    _mm_prefetch(reinterpret_cast<const char*>(src + piece.src_ahead_bytes), _MM_HINT_T1);
  }
  if (piece.dst_ahead_bytes != 0) {
    _mm_prefetch(reinterpret_cast<const char*>(dst + piece.dst_ahead_bytes), _MM_HINT_T1);
  }
}

// Rows of kEnds to 2 * kEnds vectors: kEnds vectors from each end, which may overlap.
template <int kEnds>
RESHARD_AVX2 void copy_ends(const Piece& piece) {
  const std::int64_t tail = piece.cols.extent - kEnds * kVectorBytes;
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    prefetch(piece, src, dst);
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

// Blocks of 128 bytes, the last one overlapping the one before, stores aligned after the first.
template <bool kAhead>
RESHARD_AVX2 inline void copy_blocks(const Piece& piece, std::byte* dst, const std::byte* src) {
  constexpr std::int64_t kBlockBytes = 4 * kVectorBytes;
  const std::int64_t last = piece.cols.extent - kBlockBytes;
  store(dst, load(src));
  std::int64_t at = std::min(bytes_before_multiple(dst, kVectorBytes), last);
  while (true) {
    if constexpr (kAhead) {
      prefetch(piece, src + at, dst + at);
      prefetch(piece, src + at + kLineBytes, dst + at + kLineBytes);
    }
    const __m256i a = load(src + at);
    const __m256i b = load(src + at + kVectorBytes);
    const __m256i c = load(src + at + 2 * kVectorBytes);
    const __m256i d = load(src + at + 3 * kVectorBytes);
    store(dst + at, a);
    store(dst + at + kVectorBytes, b);
    store(dst + at + 2 * kVectorBytes, c);
    store(dst + at + 3 * kVectorBytes, d);
    if (at == last) return;
    at = std::min(at + kBlockBytes, last);
  }
}

template <bool kAhead>
RESHARD_AVX2 void copy_block_rows(const Piece& piece) {
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    copy_blocks<kAhead>(piece, dst, src);
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

void copy_rows(const Piece& piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  if (row_bytes < kVectorBytes) return generic_row_kernels().copy_cached(piece);
  if (row_bytes <= 2 * kVectorBytes) return copy_ends<1>(piece);
  if (row_bytes <= 4 * kVectorBytes) return copy_ends<2>(piece);
  if (row_bytes >= kLibraryBytes) return generic_row_kernels().copy_cached(piece);
  if (piece.src_ahead_bytes != 0) return copy_block_rows<true>(piece);
  copy_block_rows<false>(piece);
}

RESHARD_AVX2 void stream_row(const Piece& piece, std::byte* dst, const std::byte* src, std::int64_t num_bytes) {
  const std::int64_t head = bytes_before_multiple(dst, kLineBytes);
  if (head != 0) std::memcpy(dst, src, static_cast<std::size_t>(head));
  std::int64_t at = head;
  for (; at + kLineBytes <= num_bytes; at += kLineBytes) {
    prefetch(piece, src + at, dst + at);
    const __m256i low = load(src + at);
    const __m256i high = load(src + at + kVectorBytes);
    stream(dst + at, low);
    stream(dst + at + kVectorBytes, high);
  }
  if (at != num_bytes) std::memcpy(dst + at, src + at, static_cast<std::size_t>(num_bytes - at));
}

void stream_rows(const Piece& piece) {
  if (piece.cols.extent < 2 * kLineBytes) return copy_rows(piece);
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::byte* const src = piece.src + row * piece.rows.src_stride;
    std::byte* const dst = piece.dst + row * piece.rows.dst_stride;
    stream_row(piece, dst, src, piece.cols.extent);
  }
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

void stream_zero_rows(const Piece& piece) {
  if (piece.cols.extent < 2 * kLineBytes) return generic_row_kernels().fill_cached(piece);
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    stream_zero_row(piece.dst + row * piece.rows.dst_stride, piece.cols.extent);
  }
}

// ---- conversions: eight elements at a time, as bits of f32 in between

constexpr std::int64_t kLanes = 8;

template <int kType>
inline constexpr std::int64_t kBytesOf = kType == RowKernels::kF32 ? 4 : 2;

RESHARD_AVX2 inline __m256i is_nan(__m256i f32_bits) {
  const __m256 value = _mm256_castsi256_ps(f32_bits);
  return _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}

template <int kType>
RESHARD_AVX2 inline __m256i load_f32_bits(const std::byte* from) {
  if constexpr (kType == RowKernels::kF32) return load(from);
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  if constexpr (kType == RowKernels::kF16) return _mm256_castps_si256(_mm256_cvtph_ps(half));
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
  return _mm256_or_si256(bits, _mm256_and_si256(is_nan(bits), _mm256_set1_epi32(0x00400000)));
}

RESHARD_AVX2 inline __m128i bf16_from_f32_bits(__m256i bits) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  const __m256i half = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan(bits)), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

template <int kType>
RESHARD_AVX2 inline void store_f32_bits(std::byte* to, __m256i bits) {
  if constexpr (kType == RowKernels::kF32) return store(to, bits);
  __m128i half;
  if constexpr (kType == RowKernels::kF16) {
    half = _mm256_cvtps_ph(_mm256_castsi256_ps(bits), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  } else {
    half = bf16_from_f32_bits(bits);
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), half);
}

template <int kSrc, int kDst>
RESHARD_AVX2 void convert_rows(const Piece& piece) {
  const std::int64_t whole = piece.cols.extent - piece.cols.extent % kLanes;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::byte* src = piece.src + row * piece.rows.src_stride;
    std::byte* dst = piece.dst + row * piece.rows.dst_stride;
    for (std::int64_t i = 0; i < whole; i += kLanes) {
      store_f32_bits<kDst>(dst + i * kBytesOf<kDst>, load_f32_bits<kSrc>(src + i * kBytesOf<kSrc>));
    }
  }
  if (whole == piece.cols.extent) return;
  Piece rest = piece;
  rest.src += whole * kBytesOf<kSrc>;
  rest.dst += whole * kBytesOf<kDst>;
  rest.cols.extent -= whole;
  generic_row_kernels().convert[kSrc][kDst](rest);
}

void store_fence() {
  _mm_sfence();
}

RowKernels make_kernels() {
  RowKernels kernels = generic_row_kernels();
  kernels.copy_cached = copy_rows;
  kernels.copy_streaming = stream_rows;
  kernels.fill_streaming = stream_zero_rows;
  kernels.convert[0][1] = convert_rows<0, 1>;
  kernels.convert[0][2] = convert_rows<0, 2>;
  kernels.convert[1][0] = convert_rows<1, 0>;
  kernels.convert[1][2] = convert_rows<1, 2>;
  kernels.convert[2][0] = convert_rows<2, 0>;
  kernels.convert[2][1] = convert_rows<2, 1>;
  kernels.transpose[0] = transpose_8bit_avx2;
  kernels.transpose[1] = transpose_16bit_avx2;
  kernels.transpose[2] = transpose_32bit_avx2;
  kernels.transpose[3] = transpose_64bit_avx2;
  kernels.fence = store_fence;
  return kernels;
}

}  // namespace

const RowKernels* avx2_row_kernels() {
  static const RowKernels kernels = make_kernels();
  static const bool supported = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return supported ? &kernels : nullptr;
}

#else

const RowKernels* avx2_row_kernels() {
  return nullptr;
}

#endif

}  // namespace reshard
