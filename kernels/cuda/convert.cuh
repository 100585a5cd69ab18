// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What is done to elements on their way. Conversions run the host's own code, so that both give the same bits.
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
};

/// Elements that are converted from one float type to another.
template <FloatType kSrc, FloatType kDst>
struct Cast {
  static constexpr int kSrcBytes = kSrc == FloatType::kF32 ? 4 : 2;
  static constexpr int kDstBytes = kDst == FloatType::kF32 ? 4 : 2;
  static constexpr bool kConverts = true;

  __device__ __forceinline__ static Word<kDstBytes> apply(Word<kSrcBytes> bits) { return from_float(to_float(bits)); }

 private:
  __device__ __forceinline__ static float to_float(Word<kSrcBytes> bits) {
    if constexpr (kSrc == FloatType::kF32) return std::bit_cast<float>(bits);
    if constexpr (kSrc == FloatType::kBF16) return float_bits::f32_from_bf16(bits);
    if constexpr (kSrc == FloatType::kF16) return float_bits::f32_from_f16(bits);
  }
  __device__ __forceinline__ static Word<kDstBytes> from_float(float value) {
    if constexpr (kDst == FloatType::kF32) return std::bit_cast<std::uint32_t>(value);
    if constexpr (kDst == FloatType::kBF16) return float_bits::bf16_from_f32(value);
    if constexpr (kDst == FloatType::kF16) return float_bits::f16_from_f32(value);
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
