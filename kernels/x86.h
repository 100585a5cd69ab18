// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Kernels for AVX2 are compiled one function at a time and chosen when the library starts to use them, so that one
// binary runs on processors without it: a flag for whole files would let the compiler use AVX2 in what others include,
// too.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

/// Compiles one function for AVX2 and F16C while the rest of the library stays at the architecture's baseline.
#define RESHARD_AVX2 __attribute__((target("avx2,f16c")))

namespace reshard {

// Each replaces its part of a table by kernels for AVX2 and F16C.
void set_copy_avx2(RowKernels* kernels);
void set_stream_avx2(RowKernels* kernels);
void set_convert_avx2(RowKernels* kernels);
void set_transpose_avx2(RowKernels* kernels);
void set_scale_avx2(RowKernels* kernels);

namespace x86 {

inline constexpr std::int64_t kLineBytes = 64;
inline constexpr std::int64_t kVectorBytes = 32;

RESHARD_AVX2 inline __m256i load(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

RESHARD_AVX2 inline void store(std::byte* to, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}

inline std::int64_t bytes_before_multiple(const std::byte* address, std::int64_t multiple) {
  return -reinterpret_cast<std::intptr_t>(address) & (multiple - 1);
}

/// Into the second-level cache; harmless at any address. Not the builtin, whose calls the compiler drops together with
/// the function or loop around them when there is nothing else in it.
inline void prefetch(const std::byte* line) {
  asm volatile("prefetcht1 %0" : : "m"(*line));
}

}  // namespace x86
}  // namespace reshard
#endif
