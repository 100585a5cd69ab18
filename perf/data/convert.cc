// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/convert.h"

#include <cstring>

namespace reshard::perf {
namespace {

constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
constexpr std::uint32_t kInfinity = 0x7f800000;

}  // namespace

std::uint16_t bf16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & kMagnitudeMask) > kInfinity) return static_cast<std::uint16_t>((bits >> 16) | 0x40);  // a quiet NaN
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float float_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t mantissa = bits & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  const std::uint32_t wide_exponent = exponent == 0x1f ? 0xff : exponent + 112;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

std::uint16_t f16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  std::uint32_t half = 0;
  if (magnitude > kInfinity) {
    half = 0x7e00;
  } else if (magnitude >= std::bit_cast<std::uint32_t>(0x1p16f)) {
    half = 0x7c00;
  } else if (magnitude < std::bit_cast<std::uint32_t>(0x1p-14f)) {
    // The last place of 0.5f is the smallest half, so that the addition rounds for us.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
  } else {
    half = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

bool is_convertible(reshard_dtype_t dtype) {
  return dtype == RESHARD_F32 || dtype == RESHARD_F16 || dtype == RESHARD_BF16;
}

float load_number(reshard_dtype_t dtype, const std::byte* element) {
  if (dtype == RESHARD_F32) {
    float value = 0;
    std::memcpy(&value, element, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, element, sizeof bits);
  return dtype == RESHARD_F16 ? float_from_f16(bits) : float_from_bf16(bits);
}

void store_number(reshard_dtype_t dtype, float value, std::byte* element) {
  if (dtype == RESHARD_F32) {
    std::memcpy(element, &value, sizeof value);
    return;
  }
  const std::uint16_t bits = dtype == RESHARD_F16 ? f16_from_float(value) : bf16_from_float(value);
  std::memcpy(element, &bits, sizeof bits);
}

}  // namespace reshard::perf
