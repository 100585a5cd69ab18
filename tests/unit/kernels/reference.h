// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/copy_list.h"
#include "kernels/scale_list.h"

namespace reshard::testing {

/// An f16 or bf16 format by its numbers; the reference conversions work by arithmetic on values, not on bits.
struct HalfFormat {
  int mantissa_bits;
  int min_exponent;  ///< of the smallest normal number
  int max_exponent;  ///< of the largest one
};
inline constexpr HalfFormat kF16Format{10, -14, 15};
inline constexpr HalfFormat kBF16Format{7, -126, 127};

/// The bits of the number of `format` nearest to `value`, ties to the even one; NaNs become `sign | quiet NaN`.
std::uint16_t reference_half_from_f32(float value, const HalfFormat& format);

/// The value of the bits.
float reference_f32_from_half(std::uint16_t bits, const HalfFormat& format);

bool is_nan_half(std::uint16_t bits, const HalfFormat& format);

/// The F8_E4M3 code nearest to `value`, ties to the even one, 0x7e above 448: found among all codes. NaN: 0x7f.
std::uint8_t reference_e4m3_from_f32(float value);

/// The value of a code, by arithmetic.
float reference_f32_from_e4m3(std::uint8_t code);

/// The value of a scale of type F32 or F8_E8M0, by arithmetic.
float reference_scale(const std::byte* scale, DType dtype);

/// Vectors of bytes compare their elements one by one, which takes longer than anything else in a test that is not
/// optimised.
inline bool are_same(const std::vector<std::byte>& one, const std::vector<std::byte>& other) {
  return one.size() == other.size() && (one.empty() || std::memcmp(one.data(), other.data(), one.size()) == 0);
}

/// Element by element, as the definition says. Scales, too.
void reference_copy(const CopyOp& op);

/// Block by block and element by element.
void reference_scales(const ScaleOp& op);

}  // namespace reshard::testing
