// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Conversions of contiguous rows, eight elements at a time, as the bits of f32 in between. Limited by memory.
#include "kernels/x86.h"

#if defined(__x86_64__)
namespace reshard {
namespace {

using namespace x86;

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
RESHARD_AVX2 void convert_rows(Piece piece) {
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

}  // namespace

void set_convert_avx2(RowKernels* kernels) {
  kernels->convert[0][1] = convert_rows<0, 1>;
  kernels->convert[0][2] = convert_rows<0, 2>;
  kernels->convert[1][0] = convert_rows<1, 0>;
  kernels->convert[1][2] = convert_rows<1, 2>;
  kernels->convert[2][0] = convert_rows<2, 0>;
  kernels->convert[2][1] = convert_rows<2, 1>;
}

}  // namespace reshard
#endif
