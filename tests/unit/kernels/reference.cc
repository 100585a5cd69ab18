// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <vector>

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

float reference_f32_from_e4m3(std::uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int fraction = code & 7;
  if ((code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const double value = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return static_cast<float>((code & 0x80) != 0 ? -value : value);
}

std::uint8_t reference_e4m3_from_f32(float value) {
  static const std::vector<double> values = [] {
    std::vector<double> all;
    for (std::uint8_t code = 0; code < 0x7f; ++code) all.push_back(reference_f32_from_e4m3(code));
    return all;
  }();
  if (std::isnan(value)) return 0x7f;
  const double magnitude = std::fabs(static_cast<double>(value));
  const int sign = std::signbit(value) ? 0x80 : 0;
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);  // the first not below
  if (above == values.end()) return static_cast<std::uint8_t>(sign | 0x7e);
  auto code = static_cast<int>(above - values.begin());
  if (code > 0) {
    const double to_upper = *above - magnitude;
    const double to_lower = magnitude - above[-1];
    if (to_lower < to_upper || (to_lower == to_upper && (code - 1) % 2 == 0)) --code;
  }
  return static_cast<std::uint8_t>(sign | code);
}

float reference_scale(const std::byte* scale, DType dtype) {
  if (dtype == DType::kF32) return load_f32(scale, dtype);
  const auto code = static_cast<int>(*scale);
  return code == 255 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(std::ldexp(1.0, code - 127));
}

namespace {

// A product of two floats is exact in double, so that it is rounded once.
float product(float a, float b) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b));
}

void quantise_element(const CopyOp& op, const std::byte* src, std::byte* dst, float scale) {
  const auto reciprocal = static_cast<float>(1.0 / static_cast<double>(scale));
  *dst = static_cast<std::byte>(reference_e4m3_from_f32(product(load_f32(src, op.src_dtype), reciprocal)));
}

void dequantise_element(const CopyOp& op, const std::byte* src, std::byte* dst, float scale) {
  float value = product(reference_f32_from_e4m3(static_cast<std::uint8_t>(*src)), scale);
  if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();  // the positive one
  store_f32(dst, op.dst_dtype, value);
}

const std::byte* scale_of(const CopyOp& op, std::int64_t element) {
  const auto* scale = static_cast<const std::byte*>(op.scales.base);
  for (int d = op.num_dims - 1; d >= 0; --d) {
    const ScaleDim& dim = op.scales.dims[d];
    scale += (dim.offset + element % op.shape[d]) / dim.block * dim.stride_bytes;
    element /= op.shape[d];
  }
  return scale;
}

}  // namespace

void reference_scales(const ScaleOp& op) {
  std::int64_t num_elements = 1;
  for (int d = 0; d < op.num_dims; ++d) num_elements *= op.shape[d];
  std::map<std::byte*, float> largest;  // by where the scale goes; NaN: there was one
  for (std::int64_t i = 0; i < num_elements; ++i) {
    std::int64_t rest = i;
    const auto* src = static_cast<const std::byte*>(op.src);
    auto* scale = static_cast<std::byte*>(op.scales);
    for (int d = op.num_dims - 1; d >= 0; --d) {
      const std::int64_t index = rest % op.shape[d];
      rest /= op.shape[d];
      src += index * op.src_strides_bytes[d];
      scale += index / op.blocks[d] * op.scale_strides_bytes[d];
    }
    const float value = std::fabs(load_f32(src, op.src_dtype));
    float& most = largest.emplace(scale, 0.0F).first->second;
    if (std::isnan(value) || value > most) most = value;
    if (std::isnan(most)) most = std::numeric_limits<float>::quiet_NaN();
  }
  for (const auto& [scale, amax] : largest) {
    if (op.rule == ScaleRule::kF32) {
      const float value = std::isnan(amax) ? amax : std::max(amax, 1e-4F) / 448.0F;
      std::memcpy(scale, &value, sizeof(value));
      continue;
    }
    int code = 0;  // the smallest with which amax is in reach, or the one with which it is in the highest binade
    const double reach = op.rule == ScaleRule::kE8M0Up ? 448.0 : std::nextafter(512.0, 0.0);
    while (code < 254 && std::ldexp(reach, code - 127) < static_cast<double>(amax)) ++code;
    *scale = std::isnan(amax) ? std::byte{255} : static_cast<std::byte>(code);
  }
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
    if (op.scales.base != nullptr) {
      const float scale = reference_scale(scale_of(op, i), op.scales.dtype);
      op.dst_dtype == DType::kF8E4M3 ? quantise_element(op, src, dst, scale) : dequantise_element(op, src, dst, scale);
    } else if (src == nullptr) {
      std::memset(dst, 0, element_bytes);
    } else if (op.src_dtype == op.dst_dtype) {
      std::memcpy(dst, src, element_bytes);
    } else {
      store_f32(dst, op.dst_dtype, load_f32(src, op.src_dtype));
    }
  }
}

}  // namespace reshard::testing
