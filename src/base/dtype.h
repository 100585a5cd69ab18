// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/status.h"

namespace reshard {

/// Element types, under the names that safetensors gives them. Values equal reshard_dtype_t of the public header.
enum class DType : std::int32_t {
  kBool = RESHARD_BOOL,
  kU8 = RESHARD_U8,
  kI8 = RESHARD_I8,
  kF8E4M3 = RESHARD_F8_E4M3,
  kF8E5M2 = RESHARD_F8_E5M2,
  kF8E8M0 = RESHARD_F8_E8M0,
  kU16 = RESHARD_U16,
  kI16 = RESHARD_I16,
  kF16 = RESHARD_F16,
  kBF16 = RESHARD_BF16,
  kU32 = RESHARD_U32,
  kI32 = RESHARD_I32,
  kF32 = RESHARD_F32,
  kU64 = RESHARD_U64,
  kI64 = RESHARD_I64,
  kF64 = RESHARD_F64,
};

/// Bytes of one element: 1, 2, 4 or 8.
std::int64_t size_bytes(DType dtype);

/// The safetensors name, upper case: "BF16".
std::string_view name(DType dtype);

/// Parses a safetensors name in any case. RESHARD_ERR_INVALID_ARGUMENT lists the known names otherwise.
Result<DType> parse_dtype(std::string_view text);

/// True for every value of the enumeration; false for an integer that only pretends to be one.
bool is_valid(DType dtype);

/// Whether elements of `src` can be delivered as `dst`: equal, or both among F32, BF16 and F16.
bool is_convertible(DType src, DType dst);

/// The type in which elements travel: the narrower of the two, so that a cast happens where it makes the wire shorter.
/// `dst` wins a tie (BF16 -> F16 is converted by the sender): so what has arrived can be forwarded as it came.
DType wire_dtype(DType src, DType dst);

}  // namespace reshard
