// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Quantising and dequantising eight elements at a time, as the bits of F32 in between: scale_bits.h in vectors. Limited
// by memory, or by some three instructions for an element where memory is fast.
#include "kernels/x86.h"

#if defined(__x86_64__)
#include "kernels/scale_rows.h"

namespace reshard {
namespace {

using namespace x86;

constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kGroup = 4 * kLanes;  // a vector of codes, and a block of MXFP8

template <int kType>
RESHARD_AVX2 inline __m256 load_wide(const std::byte* from) {
  if constexpr (kType == RowKernels::kF32) return _mm256_castsi256_ps(load(from));
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

// scale_bits::e4m3_from_f32, a code in each lane of 32 bits.
RESHARD_AVX2 inline __m256i codes_of(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
  const __m256i normal = _mm256_sub_epi32(_mm256_srli_epi32(rounded, 20), _mm256_set1_epi32(120 << 3));
  const __m256 step = _mm256_set1_ps(0x1p14F);
  const __m256i denormal = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(magnitude), step)),
                                            _mm256_castps_si256(step));
  const __m256i is_denormal = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), magnitude);
  const __m256i code =
      _mm256_min_epi32(_mm256_blendv_epi8(normal, denormal, is_denormal), _mm256_set1_epi32(0x7e));  // above 448
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(_mm256_or_si256(code, sign), _mm256_set1_epi32(scale_bits::kNaNE4M3), is_nan);
}

template <int kType>
RESHARD_AVX2 inline __m256i quantise_lanes(const std::byte* src, __m256 factor) {
  return codes_of(_mm256_mul_ps(load_wide<kType>(src), factor));
}

template <int kType>
RESHARD_AVX2 inline void quantise_with_vectors(const std::byte* src, std::byte* dst, std::int64_t count, float scale) {
  constexpr std::int64_t kBytes = WideElements<kType>::kBytes;
  const float factor = scale_bits::reciprocal(scale);
  const __m256 factors = _mm256_set1_ps(factor);
  std::int64_t i = 0;
  for (; i + kGroup <= count; i += kGroup) {
    const std::byte* from = src + i * kBytes;
    const __m256i a = quantise_lanes<kType>(from, factors);
    const __m256i b = quantise_lanes<kType>(from + kLanes * kBytes, factors);
    const __m256i c = quantise_lanes<kType>(from + 2 * kLanes * kBytes, factors);
    const __m256i d = quantise_lanes<kType>(from + 3 * kLanes * kBytes, factors);
    // Packing works within halves of a vector: four codes of a, b, c and d each lie in either half.
    const __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    store(dst + i, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i a = quantise_lanes<kType>(src + i * kBytes, factors);
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst + i), _mm_packus_epi16(halves, halves));
  }
  quantise_run<kType>(src + i * kBytes, dst + i, count - i, factor);
}

// Through F16, whose exponent is by 8 another: its conversion takes denormals as they are, and no time for them.
RESHARD_AVX2 inline __m256 values_of(__m128i codes) {
  const __m128i wide = _mm_cvtepu8_epi16(codes);
  const __m128i magnitude = _mm_and_si128(wide, _mm_set1_epi16(0x7f));
  const __m128i sign = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(0x80)), 8);
  const __m128i is_nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(scale_bits::kNaNE4M3));  // then all bits are set
  const __m128i half = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(magnitude, 7), sign), is_nan);
  return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0F));
}

template <int kType>
RESHARD_AVX2 inline void store_wide(std::byte* to, __m256 value) {
  const __m256i nan = _mm256_set1_epi32(static_cast<int>(scale_bits::kNaNF32));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i bits = _mm256_castps_si256(value);
  if constexpr (kType == RowKernels::kF32) return store(to, _mm256_blendv_epi8(bits, nan, is_nan));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i half = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, nan, is_nan), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

template <int kType>
RESHARD_AVX2 inline void dequantise_with_vectors(const std::byte* src, std::byte* dst, std::int64_t count,
                                                 float scale) {
  constexpr std::int64_t kBytes = WideElements<kType>::kBytes;
  const __m256 scales = _mm256_set1_ps(scale);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256 values = values_of(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src + i)));
    store_wide<kType>(dst + i * kBytes, _mm256_mul_ps(values, scales));
  }
  dequantise_run<kType>(src + i, dst + i * kBytes, count - i, scale);
}

template <int kType>
RESHARD_AVX2 void quantise_rows_avx2(const ScaledPiece& scaled) {
  for_each_run<WideElements<kType>::kBytes, 1>(scaled, quantise_with_vectors<kType>);
}

template <int kType>
RESHARD_AVX2 void dequantise_rows_avx2(const ScaledPiece& scaled) {
  for_each_run<1, WideElements<kType>::kBytes>(scaled, dequantise_with_vectors<kType>);
}

// As integers of the element's own size: magnitudes are ordered as their bits.
template <int kType>
RESHARD_AVX2 inline __m256i max_of(__m256i a, __m256i b) {
  return kType == RowKernels::kF32 ? _mm256_max_epu32(a, b) : _mm256_max_epu16(a, b);
}

template <int kType>
RESHARD_AVX2 std::uint32_t max_magnitude_avx2(const std::byte* src, std::int64_t count) {
  using Wide = WideElements<kType>;
  constexpr std::int64_t kPerVector = kVectorBytes / Wide::kBytes;
  const __m256i mask = kType == RowKernels::kF32 ? _mm256_set1_epi32(0x7fffffff) : _mm256_set1_epi16(0x7fff);
  __m256i even = _mm256_setzero_si256();
  __m256i odd = even;
  std::int64_t i = 0;
  for (; i + 2 * kPerVector <= count; i += 2 * kPerVector) {
    even = max_of<kType>(even, _mm256_and_si256(load(src + i * Wide::kBytes), mask));
    odd = max_of<kType>(odd, _mm256_and_si256(load(src + (i + kPerVector) * Wide::kBytes), mask));
  }
  alignas(32) std::byte most[kVectorBytes];
  store(most, max_of<kType>(even, odd));
  const std::uint32_t of_vectors = max_magnitude_of<kType>(most, kPerVector);
  const std::uint32_t of_rest = max_magnitude_of<kType>(src + i * Wide::kBytes, count - i);
  return of_vectors > of_rest ? of_vectors : of_rest;
}

template <int kType>
void set_type(RowKernels* kernels) {
  kernels->quantise[kType] = quantise_rows_avx2<kType>;
  kernels->dequantise[kType] = dequantise_rows_avx2<kType>;
  kernels->max_magnitude[kType] = max_magnitude_avx2<kType>;
}

}  // namespace

void set_scale_avx2(RowKernels* kernels) {
  set_type<RowKernels::kF32>(kernels);
  set_type<RowKernels::kBF16>(kernels);
}

}  // namespace reshard
#endif
