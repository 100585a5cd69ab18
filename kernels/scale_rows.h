// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs of elements that share a scale, one element at a time: all of the generic kernels, and the rests that kernels
// with vectors leave.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/rows.h"
#include "kernels/scale_bits.h"

namespace reshard {

/// The elements that F8_E4M3 is made from, or becomes: RowKernels::kF32 or kBF16.
template <int kType>
struct WideElements {
  using Bits = std::conditional_t<kType == RowKernels::kF32, std::uint32_t, std::uint16_t>;
  static constexpr std::int64_t kBytes = sizeof(Bits);

  static Bits load(const std::byte* from) {
    Bits bits;
    std::memcpy(&bits, from, sizeof(bits));
    return bits;
  }
  static std::uint32_t f32_bits(Bits bits) {
    return kType == RowKernels::kF32 ? std::uint32_t{bits} : std::uint32_t{bits} << 16;
  }
  static Bits dequantise(std::uint8_t code, float scale) {
    if constexpr (kType == RowKernels::kF32) return std::bit_cast<Bits>(scale_bits::dequantise_f32(code, scale));
    if constexpr (kType == RowKernels::kBF16) return scale_bits::dequantise_bf16(code, scale);
  }
};

template <int kType>
void quantise_run(const std::byte* src, std::byte* dst, std::int64_t count, float factor) {
  using Wide = WideElements<kType>;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t bits = Wide::f32_bits(Wide::load(src + i * Wide::kBytes));
    dst[i] = static_cast<std::byte>(scale_bits::quantise(std::bit_cast<float>(bits), factor));
  }
}

template <int kType>
void dequantise_run(const std::byte* src, std::byte* dst, std::int64_t count, float scale) {
  using Wide = WideElements<kType>;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = Wide::dequantise(static_cast<std::uint8_t>(src[i]), scale);
    std::memcpy(dst + i * Wide::kBytes, &bits, sizeof(bits));
  }
}

template <int kType>
std::uint32_t max_magnitude_of(const std::byte* src, std::int64_t count) {
  using Wide = WideElements<kType>;
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = Wide::f32_bits(Wide::load(src + i * Wide::kBytes)) & ~float_bits::kF32SignBit;
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

// The kernels of generic_row_kernels(), in scale_generic.cc.
template <int kType>
void quantise_rows(const ScaledPiece& scaled);
template <int kType>
void dequantise_rows(const ScaledPiece& scaled);
template <int kType>
std::uint32_t max_magnitude(const std::byte* src, std::int64_t count);

}  // namespace reshard
