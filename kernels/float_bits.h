// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <bit>
#include <cstdint>

namespace reshard::float_bits {

// Conversions without branches, so that loops over them vectorise. No step makes or reads a denormal float, so that
// they hold in threads that flush denormals to zero. They agree with the F16C instructions bit by bit, NaNs too.
// constexpr: nvcc takes such functions for the device as well, so that both sides run the same code.

inline constexpr std::uint32_t kF32Infinity = 0x7f800000U;
inline constexpr std::uint32_t kF32QuietBit = 0x00400000U;
inline constexpr std::uint32_t kF32SignBit = 0x80000000U;
inline constexpr std::uint32_t kHalfBias = std::uint32_t{127 - 15} << 23;  // between the exponents of f32 and f16

constexpr std::uint16_t bf16_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  // To the nearest, ties to even: just below half of the last kept bit is added, and one more where that bit is odd.
  const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);  // carries into infinity by itself
  // Rounding could carry a NaN into infinity or into its sign; so its payload is cut off and the quiet bit set.
  const std::uint32_t quiet = bits | kF32QuietBit;
  return static_cast<std::uint16_t>(((bits & ~kF32SignBit) > kF32Infinity ? quiet : rounded) >> 16);
}

constexpr float f32_from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  return std::bit_cast<float>((bits & ~kF32SignBit) > kF32Infinity ? bits | kF32QuietBit : bits);
}

constexpr std::uint16_t f16_from_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & ~kF32SignBit;
  // The exponent is moved first, and then rounded with its fraction as one number, so that a carry goes into it.
  const std::uint32_t normal = (magnitude - kHalfBias + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
  // Below 2^-14 an f16 counts in steps of 2^-24, the spacing of floats in [0.5, 1): adding 0.5 rounds.
  const std::uint32_t denormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
  // The upper bits of the payload stay, as F16C keeps them.
  const std::uint32_t nan = 0x7e00U | ((magnitude >> 13) & 0x3ffU);
  std::uint32_t half = magnitude < 0x38800000U ? denormal : normal;
  half = magnitude >= 0x47800000U ? 0x7c00U : half;  // 65536 and above; the carry of `normal` covers [65520, 65536)
  half = magnitude > kF32Infinity ? nan : half;
  return static_cast<std::uint16_t>(half | ((bits & kF32SignBit) >> 16));
}

constexpr float f32_from_f16(std::uint16_t half) {
  const std::uint32_t magnitude = half & 0x7fffU;
  const std::uint32_t normal = (magnitude << 13) + kHalfBias;
  const auto denormal =
      std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
  std::uint32_t bits = magnitude < 0x400U ? denormal : normal;
  bits = magnitude >= 0x7c00U ? kF32Infinity | (magnitude << 13) : bits;
  bits = magnitude > 0x7c00U ? bits | kF32QuietBit : bits;
  return std::bit_cast<float>(bits | (std::uint32_t{half} & 0x8000U) << 16);
}

}  // namespace reshard::float_bits
