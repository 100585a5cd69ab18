// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "reshard/reshard.h"

namespace reshard::perf {

// Scalar conversions, round to nearest even, written apart from the library's so that they can judge them.

inline float float_from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}
std::uint16_t bf16_from_float(float value);
float float_from_f16(std::uint16_t bits);
std::uint16_t f16_from_float(float value);

/// 8-bit floats E4M3: to the nearest, ties to even; what is above 448 becomes 448. No NaNs.
std::uint8_t e4m3_from_float(float value);
float float_from_e4m3(std::uint8_t code);

/// True for the dtypes that convert into each other: F32, F16, BF16.
bool is_convertible(reshard_dtype_t dtype);

/// One element as a number, and back. dtype must be convertible.
float load_number(reshard_dtype_t dtype, const std::byte* element);
void store_number(reshard_dtype_t dtype, float value, std::byte* element);

}  // namespace reshard::perf
