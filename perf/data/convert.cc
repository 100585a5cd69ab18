// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Conversions of the tools' own, one number at a time, written apart from those of the kernels: what a run produced is
// compared with what is computed here, and a fault that both shared would not be seen.
#include "perf/data/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace reshard::perf {
namespace {

constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
constexpr std::uint32_t kInfinity = 0x7f800000;

}  // namespace

std::uint16_t bf16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & kMagnitudeMask) > kInfinity) return static_cast<std::uint16_t>((bits >> 16) | 0x40);  // a quiet NaN
  // Half a last place less one, and one more where the last place that stays is odd: to the nearest, ties to even. A
  // carry runs on into the exponent, and from the largest number to infinity, as it should.
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float float_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t mantissa = bits & 0x3ff;
  if (exponent == 0) {  // zero, or a number without a leading one: multiples of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  // Exponents are counted from 15 in a half and from 127 in a float; the largest means infinity or NaN in both.
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

float float_from_e4m3(std::uint8_t code) {
  const int exponent = (code >> 3) & 0xf;
  const int fraction = code & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                        : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/// By looking for the two neighbours among the 127 values, and not by bits as the kernels do.
std::uint8_t e4m3_from_float(float value) {
  const float magnitude = std::min(std::fabs(value), 448.0f);
  std::uint8_t code = 0;
  while (code < 0x7e && float_from_e4m3(static_cast<std::uint8_t>(code + 1)) <= magnitude) ++code;
  if (code < 0x7e) {
    const float below = magnitude - float_from_e4m3(code);
    const float above = float_from_e4m3(static_cast<std::uint8_t>(code + 1)) - magnitude;
    if (above < below || (above == below && code % 2 != 0)) ++code;
  }
  return static_cast<std::uint8_t>(code | (std::signbit(value) ? 0x80 : 0));
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
