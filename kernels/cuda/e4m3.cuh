// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// F8_E4M3 on a device, four elements to a word. From compute capability 8.9 on the machine converts; before, it is done
// by hand, with the same bits. NaNs are for the caller, who looks for them in many elements at once.
#ifndef RESHARD_KERNELS_CUDA_E4M3_CUH
#define RESHARD_KERNELS_CUDA_E4M3_CUH

#include <bit>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/float_bits.h"
#include "kernels/scale_bits.h"

namespace reshard::cuda {

/// The lowest byte is the code of the magnitude; what is above is not looked at.
__device__ __forceinline__ std::uint32_t e4m3_magnitude_by_hand(float value) {
  const float magnitude = smaller_magnitude(value, scale_bits::kMaxE4M3);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
  // The power of two below, of which a step is an eighth; that of denormals from 2^-6 down.
  const std::uint32_t exponent = bits & float_bits::kF32Infinity;
  const std::uint32_t power = exponent > 0x3c800000U ? exponent : 0x3c800000U;
  // At 2^20 times the power floats are a step apart: the sum is rounded to steps, to even, and ends with their number.
  // Seven powers more are 56 steps, which makes 8 * (biased exponent - 1) of the power's upper bits below.
  const float sum = fused_multiply_add(std::bit_cast<float>(power), 0x1p20F + 7.0F, magnitude);
  return std::bit_cast<std::uint32_t>(sum) + (power >> 20);
}

/// Signs are the upper bits of the bytes of `signs`, not those of the values.
__device__ __forceinline__ std::uint32_t pack_e4m3_by_hand(const float (&values)[4], std::uint32_t signs) {
  const std::uint32_t low = permute(e4m3_magnitude_by_hand(values[0]), e4m3_magnitude_by_hand(values[1]), 0x0040);
  const std::uint32_t high = permute(e4m3_magnitude_by_hand(values[2]), e4m3_magnitude_by_hand(values[3]), 0x0040);
  return (permute(low, high, 0x5410) & 0x7f7f7f7fU) | (signs & 0x80808080U);
}

/// Two codes, each the upper byte of a half, as F16: an exponent that is 8 too low, denormals being denormals.
__device__ __forceinline__ std::uint32_t e4m3_as_f16(std::uint32_t halves) {
  return (halves >> 1 & 0x3f803f80U) | (halves & 0x80008000U);
}

/// Values divided by 256.
__device__ __forceinline__ void unpack_e4m3_by_hand(std::uint32_t codes, float (&values)[4]) {
  const std::uint32_t low = e4m3_as_f16(permute(codes, 0, 0x1404));
  const std::uint32_t high = e4m3_as_f16(permute(codes, 0, 0x3424));
  values[0] = float_of_f16(static_cast<std::uint16_t>(low));
  values[1] = float_of_f16(static_cast<std::uint16_t>(low >> 16));
  values[2] = float_of_f16(static_cast<std::uint16_t>(high));
  values[3] = float_of_f16(static_cast<std::uint16_t>(high >> 16));
}

/// Four codes. `signs` has the sign of each value at the top of a byte: by hand they need not be looked for again.
__device__ __forceinline__ std::uint32_t pack_e4m3(const float (&values)[4], std::uint32_t signs) {
  if constexpr (kHasE4M3) {
    return pack_e4m3_by_machine(values[0], values[1]) | pack_e4m3_by_machine(values[2], values[3]) << 16;
  } else {
    return pack_e4m3_by_hand(values, signs);
  }
}

/// What unpack_e4m3() gives is a value times 1 / kUnpacked.
inline constexpr float kUnpacked = kHasE4M3 ? 1.0F : 256.0F;

/// Four values, each divided by kUnpacked.
__device__ __forceinline__ void unpack_e4m3(std::uint32_t codes, float (&values)[4]) {
  if constexpr (kHasE4M3) {
    unpack_e4m3_by_machine(codes & 0xffff, &values[0], &values[1]);
    unpack_e4m3_by_machine(codes >> 16, &values[2], &values[3]);
  } else {
    unpack_e4m3_by_hand(codes, values);
  }
}

/// Whether one of four codes is a NaN: then a byte of this has its upper bit set.
__device__ __forceinline__ std::uint32_t nan_bits_of_codes(std::uint32_t codes) {
  return ((codes & 0x7f7f7f7fU) + 0x01010101U) & 0x80808080U;
}

}  // namespace reshard::cuda

#endif
