// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What is done to elements on their way. Conversions give the same bits as the host's do, NaNs included.
#ifndef RESHARD_KERNELS_CUDA_CONVERT_CUH
#define RESHARD_KERNELS_CUDA_CONVERT_CUH

#include <bit>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/float_bits.h"
#include "kernels/tile.h"

namespace reshard::cuda {

/// Elements that are copied as they are.
template <int kBytes>
struct Same {
  static constexpr int kSrcBytes = kBytes;
  static constexpr int kDstBytes = kBytes;
  static constexpr bool kConverts = false;

  __device__ __forceinline__ static Word<kBytes> apply(Word<kBytes> bits) { return bits; }

  /// kCount elements as words of memory.
  template <std::uint32_t kCount>
  __device__ __forceinline__ static void pack(const std::uint32_t (&bits)[kCount],
                                              std::uint32_t (&words)[kCount * kBytes / 4]) {
#pragma unroll
    for (std::uint32_t i = 0; i < kCount * kBytes / 4; ++i) {
      if constexpr (kBytes == 4) words[i] = bits[i];
      if constexpr (kBytes == 2) words[i] = bits[2 * i] | bits[2 * i + 1] << 16;
      if constexpr (kBytes == 1) {
        words[i] = (bits[4 * i] | bits[4 * i + 1] << 8) | (bits[4 * i + 2] | bits[4 * i + 3] << 8) << 16;
      }
    }
  }
};

/// Elements that are converted from one float type to another.
template <FloatType kSrc, FloatType kDst>
struct Cast {
  static constexpr int kSrcBytes = kSrc == FloatType::kF32 ? 4 : 2;
  static constexpr int kDstBytes = kDst == FloatType::kF32 ? 4 : 2;
  static constexpr bool kConverts = true;

  __device__ __forceinline__ static Word<kDstBytes> apply(Word<kSrcBytes> bits) {
    const float value = widen(bits);
    if (is_any_nan(value, value)) return static_cast<Word<kDstBytes>>(narrowed_nan(widened_nan(bits)));
    return static_cast<Word<kDstBytes>>(narrow(value, value) & (kDstBytes == 2 ? 0xffff : 0xffffffff));
  }

  /// kCount elements as words of memory. NaNs are looked for in all at once and seen to behind one branch.
  template <std::uint32_t kCount>
  __device__ __forceinline__ static void pack(const std::uint32_t (&bits)[kCount],
                                              std::uint32_t (&words)[kCount * kDstBytes / 4]) {
    bool has_nan = false;
#pragma unroll
    for (std::uint32_t i = 0; i < kCount; i += 2) {
      const float low = widen(static_cast<Word<kSrcBytes>>(bits[i]));
      const float high = widen(static_cast<Word<kSrcBytes>>(bits[i + 1]));
      has_nan = has_nan || is_any_nan(low, high);
      if constexpr (kDstBytes == 4) {
        words[i] = std::bit_cast<std::uint32_t>(low);
        words[i + 1] = std::bit_cast<std::uint32_t>(high);
      } else {
        words[i / 2] = narrow(low, high);
      }
    }
    if (has_nan) {
#pragma unroll
      for (std::uint32_t i = 0; i < kCount; ++i) mend_nan(bits[i], i % (4 / kDstBytes) * 16, &words[i * kDstBytes / 4]);
    }
  }

 private:
  static constexpr std::uint32_t kQuiet = float_bits::kF32QuietBit;

  __device__ __forceinline__ static float widen(Word<kSrcBytes> bits) {
    if constexpr (kSrc == FloatType::kF32) {
      return std::bit_cast<float>(bits);
    } else if constexpr (kSrc == FloatType::kBF16) {
      return std::bit_cast<float>(std::uint32_t{bits} << 16);
    } else {
      return float_of_f16(bits);
    }
  }

  __device__ __forceinline__ static std::uint32_t narrow(float low, float high) {
    if constexpr (kDst == FloatType::kF32) return std::bit_cast<std::uint32_t>(low);
    return kDst == FloatType::kBF16 ? pack_bf16(low, high) : pack_f16(low, high);
  }

  // The machine's conversions are the host's but for NaNs, of which the machine keeps no payload. These do what the
  // host's float_bits do with a NaN: it becomes quiet, and keeps as much of its payload as there is room for.

  __device__ __forceinline__ static std::uint32_t widened_nan(std::uint32_t bits) {
    if constexpr (kSrc == FloatType::kF32) return bits | kQuiet;
    if constexpr (kSrc == FloatType::kBF16) return bits << 16 | kQuiet;
    if constexpr (kSrc == FloatType::kF16) {
      return (bits & 0x8000U) << 16 | float_bits::kF32Infinity | (bits & 0x7fffU) << 13 | kQuiet;
    }
  }
  __device__ __forceinline__ static std::uint32_t narrowed_nan(std::uint32_t bits) {
    if constexpr (kDst == FloatType::kF32) return bits;
    if constexpr (kDst == FloatType::kBF16) return bits >> 16;
    if constexpr (kDst == FloatType::kF16) return (bits >> 16 & 0x8000U) | 0x7e00U | (bits >> 13 & 0x3ffU);
  }

  // Puts the element, if it is a NaN, into its half of a word, or into all of it.
  __device__ __forceinline__ static void mend_nan(std::uint32_t bits, std::uint32_t shift, std::uint32_t* word) {
    const float value = widen(static_cast<Word<kSrcBytes>>(bits));
    if (!is_any_nan(value, value)) return;
    const std::uint32_t mask = kDstBytes == 4 ? 0 : 0xffff0000U >> shift;
    *word = (*word & mask) | narrowed_nan(widened_nan(bits)) << shift;
  }
};

/// Calls `action` with the Same or Cast of a box, so that no loop asks for it again. All threads take the same way.
template <typename Action>
__device__ __forceinline__ void with_cast(const CopyBox& box, const Action& action) {
  constexpr auto kF32 = FloatType::kF32;
  constexpr auto kBF16 = FloatType::kBF16;
  constexpr auto kF16 = FloatType::kF16;
  switch (box.types == CopyBox::kSameType ? box.dst_bytes : 32 + box.types) {
    case 1:
      return action(Same<1>());
    case 2:
      return action(Same<2>());
    case 4:
      return action(Same<4>());
    case 8:
      return action(Same<8>());
    case 16:
      return action(Same<16>());
    case 32 + CopyBox::types_of(kF32, kBF16):
      return action(Cast<kF32, kBF16>());
    case 32 + CopyBox::types_of(kF32, kF16):
      return action(Cast<kF32, kF16>());
    case 32 + CopyBox::types_of(kBF16, kF32):
      return action(Cast<kBF16, kF32>());
    case 32 + CopyBox::types_of(kF16, kF32):
      return action(Cast<kF16, kF32>());
    case 32 + CopyBox::types_of(kBF16, kF16):
      return action(Cast<kBF16, kF16>());
    case 32 + CopyBox::types_of(kF16, kBF16):
      return action(Cast<kF16, kBF16>());
    default:
      return;
  }
}

}  // namespace reshard::cuda

#endif
