// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace reshard::testing {
namespace {

constexpr std::uint16_t kSignBit = 0x8000;

std::uint16_t infinity_bits(const HalfFormat& format) {
  return static_cast<std::uint16_t>(0x7fff >> format.mantissa_bits << format.mantissa_bits);
}

const HalfFormat& format_of(DType dtype) {
  return dtype == DType::kF16 ? kF16Format : kBF16Format;
}

float load_f32(const std::byte* from, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return reference_f32_from_half(bits, format_of(dtype));
}

void store_f32(std::byte* to, DType dtype, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(to, &value, sizeof(value));
    return;
  }
  const std::uint16_t bits = reference_half_from_f32(value, format_of(dtype));
  std::memcpy(to, &bits, sizeof(bits));
}

}  // namespace

bool is_nan_half(std::uint16_t bits, const HalfFormat& format) {
  return (bits & 0x7fff) > infinity_bits(format);
}

std::uint16_t reference_half_from_f32(float value, const HalfFormat& format) {
  const std::uint16_t sign = std::signbit(value) ? kSignBit : 0;
  if (std::isnan(value)) {
    return static_cast<std::uint16_t>(sign | infinity_bits(format) | (1 << (format.mantissa_bits - 1)));
  }
  if (std::isinf(value)) return sign | infinity_bits(format);
  const double magnitude = std::fabs(static_cast<double>(value));
  // The spacing of the format's numbers around `value`; all steps below are exact in double.
  int exponent = magnitude == 0 ? format.min_exponent : std::max(std::ilogb(magnitude), format.min_exponent);
  const double steps = std::ldexp(magnitude, format.mantissa_bits - exponent);
  double whole = std::floor(steps);
  const double rest = steps - whole;
  if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) == 1.0)) whole += 1;
  if (whole == std::ldexp(1.0, format.mantissa_bits + 1)) {
    whole /= 2;
    ++exponent;
  }
  if (exponent > format.max_exponent) return sign | infinity_bits(format);
  // Counted in steps from zero, the numbers of a binade follow those of the one below.
  const auto hidden = std::int64_t{1} << format.mantissa_bits;
  const std::int64_t count = (exponent - format.min_exponent) * hidden + static_cast<std::int64_t>(whole);
  return static_cast<std::uint16_t>(sign | count);
}

float reference_f32_from_half(std::uint16_t bits, const HalfFormat& format) {
  const double sign = (bits & kSignBit) != 0 ? -1.0 : 1.0;
  if (is_nan_half(bits, format)) {
    return std::copysign(std::numeric_limits<float>::quiet_NaN(), static_cast<float>(sign));
  }
  const int exponent_field = (bits & 0x7fff) >> format.mantissa_bits;
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  if ((bits & 0x7fff) == infinity_bits(format)) return static_cast<float>(sign * HUGE_VAL);
  const int significand = exponent_field == 0 ? mantissa : mantissa + (1 << format.mantissa_bits);
  const int exponent = std::max(exponent_field, 1) - 1 + format.min_exponent - format.mantissa_bits;
  return static_cast<float>(sign * std::ldexp(static_cast<double>(significand), exponent));
}

void reference_copy(const CopyOp& op) {
  std::int64_t num_elements = 1;
  for (int d = 0; d < op.num_dims; ++d) num_elements *= op.shape[d];
  for (std::int64_t i = 0; i < num_elements; ++i) {
    std::int64_t rest = i;
    const auto* src = static_cast<const std::byte*>(op.src);
    auto* dst = static_cast<std::byte*>(op.dst);
    for (int d = op.num_dims - 1; d >= 0; --d) {
      const std::int64_t index = rest % op.shape[d];
      rest /= op.shape[d];
      if (src != nullptr) src += index * op.src_strides_bytes[d];
      dst += index * op.dst_strides_bytes[d];
    }
    const auto element_bytes = static_cast<std::size_t>(size_bytes(op.dst_dtype));
    if (src == nullptr) {
      std::memset(dst, 0, element_bytes);
    } else if (op.src_dtype == op.dst_dtype) {
      std::memcpy(dst, src, element_bytes);
    } else {
      store_f32(dst, op.dst_dtype, load_f32(src, op.src_dtype));
    }
  }
}

}  // namespace reshard::testing
