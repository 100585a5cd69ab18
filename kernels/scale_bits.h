// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The definition, bit by bit, of scales and of conversions to and from F8_E4M3. Hosts and devices give these bits.
//
//   reciprocal   r = 1 / s                     in F32, divided as IEEE 754 says
//   quantise     q = e4m3(x * r)               the product rounded to F32, then to E4M3
//   dequantise   y = q * s                     rounded to F32, then to BF16 where that is wanted
//
// The product with the reciprocal is what DeepGEMM's per_block_cast_to_fp8 does, vLLM with static scales, and
// FlashInfer for MXFP8; DeepSeek's first kernels divide, which differs in the last bit of a quotient now and then. y is
// what servers make of a weight and its `weight_scale_inv`: that name means the scale to multiply with.
//
// All of it is in IEEE arithmetic with denormals, rounded to the nearest, ties to even: ieee_mode.h sees to that on
// hosts. A NaN that comes out is always the positive quiet one without payload, because processors do not agree on the
// sign of a NaN that they make.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/float_bits.h"
#include "kernels/scale.h"

namespace reshard::scale_bits {

inline constexpr float kMaxE4M3 = 448.0F;
/// Blocks of zeros, and such as hold nothing larger than this, get the scale of this: no scale is 0.
inline constexpr float kLeastAmax = 1e-4F;
inline constexpr std::uint8_t kNaNE4M3 = 0x7f;
inline constexpr std::uint8_t kNaNE8M0 = 0xff;
inline constexpr std::uint32_t kNaNF32 = 0x7fc00000U;
inline constexpr std::uint16_t kNaNBF16 = 0x7fc0U;

/// To the nearest, ties to even. What is above 448, infinity too, becomes 448 (as cuda_fp8.h with saturation).
constexpr std::uint8_t e4m3_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & ~float_bits::kF32SignBit;
  // Exponent and fraction are rounded as one number, so that a carry goes into the exponent. The biases are 120 apart.
  const std::uint32_t normal = ((magnitude + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20) - (120U << 3);
  // Below 2^-6 steps are 2^-9, the spacing of floats in [2^14, 2^15): adding 2^14 rounds.
  const std::uint32_t denormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14F) - std::bit_cast<std::uint32_t>(0x1p14F);
  std::uint32_t code = magnitude < 0x3c800000U ? denormal : normal;
  code = magnitude > 0x43e00000U ? 0x7eU : code;
  code |= (bits >> 24) & 0x80U;
  return static_cast<std::uint8_t>(magnitude > float_bits::kF32Infinity ? std::uint32_t{kNaNE4M3} : code);
}

/// Exact.
constexpr float f32_from_e4m3(std::uint8_t code) {
  const std::uint32_t magnitude = code & 0x7fU;
  const std::uint32_t normal = (magnitude << 20) + (120U << 23);
  const auto denormal =
      std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-9F);
  std::uint32_t bits = magnitude < 8 ? denormal : normal;
  bits |= (std::uint32_t{code} & 0x80U) << 24;
  return std::bit_cast<float>(magnitude == kNaNE4M3 ? kNaNF32 : bits);
}

/// 2^(code - 127), exactly; the NaN for 255.
constexpr float f32_from_e8m0(std::uint8_t code) {
  constexpr std::uint32_t kSmallest = 0x00400000U;  // 2^-127, which is a denormal
  const std::uint32_t bits = code == 0 ? kSmallest : std::uint32_t{code} << 23;
  return std::bit_cast<float>(code == kNaNE8M0 ? kNaNF32 : bits);
}

constexpr float reciprocal(float scale) {
  return 1.0F / scale;
}

/// `factor` is the reciprocal of the scale.
constexpr std::uint8_t quantise(float value, float factor) {
  return e4m3_from_f32(value * factor);
}

constexpr float dequantise_f32(std::uint8_t code, float scale) {
  const float value = f32_from_e4m3(code) * scale;
  const bool is_nan = (std::bit_cast<std::uint32_t>(value) & ~float_bits::kF32SignBit) > float_bits::kF32Infinity;
  return is_nan ? std::bit_cast<float>(kNaNF32) : value;
}

constexpr std::uint16_t dequantise_bf16(std::uint8_t code, float scale) {
  return float_bits::bf16_from_f32(dequantise_f32(code, scale));
}

// Scales from the largest magnitude of a block, as the bits of an F32. As integers magnitudes are ordered as their
// values are, and NaNs are above all others, so that a block with a NaN has a NaN for a scale: all of it is spoiled,
// and it shows.

/// ScaleRule::kF32
constexpr float scale_f32(std::uint32_t amax_bits) {
  if (amax_bits > float_bits::kF32Infinity) return std::bit_cast<float>(kNaNF32);
  const auto amax = std::bit_cast<float>(amax_bits);
  return (amax > kLeastAmax ? amax : kLeastAmax) / kMaxE4M3;
}

/// 2^exponent as far as E8M0 goes.
constexpr std::uint8_t e8m0_of_exponent(std::int32_t exponent) {
  const std::int32_t biased = exponent + 127;
  return static_cast<std::uint8_t>(biased < 0 ? 0 : biased > 254 ? 254 : biased);
}

/// ScaleRule::kE8M0Up and kE8M0Down. Of infinity it is the largest scale. Of zeros, and of anything below 2^-119, it is
/// the smallest.
constexpr std::uint8_t scale_e8m0(std::uint32_t amax_bits, bool is_up) {
  if (amax_bits > float_bits::kF32Infinity) return kNaNE8M0;
  if (amax_bits == float_bits::kF32Infinity) return e8m0_of_exponent(127);
  // floor(log2(amax)), but for denormals, whose scale is the smallest in any case.
  const std::int32_t exponent = static_cast<std::int32_t>(amax_bits >> 23) - 127;
  const bool is_above = (amax_bits & 0x007fffffU) > 0x00600000U;  // 1.75 * 2^exponent, of which 448 is one
  return e8m0_of_exponent(exponent - 8 + (is_up && is_above ? 1 : 0));
}

}  // namespace reshard::scale_bits
