// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/base/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace reshard {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  std::int64_t size_bytes;
};

// In the order of the enumeration, for row() takes the value as an index.
constexpr std::array<Row, 16> kRows = {{
    {DType::kBool, "BOOL", 1},
    {DType::kU8, "U8", 1},
    {DType::kI8, "I8", 1},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kF8E8M0, "F8_E8M0", 1},
    {DType::kU16, "U16", 2},
    {DType::kI16, "I16", 2},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kU32, "U32", 4},
    {DType::kI32, "I32", 4},
    {DType::kF32, "F32", 4},
    {DType::kU64, "U64", 8},
    {DType::kI64, "I64", 8},
    {DType::kF64, "F64", 8},
}};

const Row& row(DType dtype) {
  return kRows.at(static_cast<std::size_t>(dtype));
}

bool is_converting_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

}  // namespace

std::int64_t size_bytes(DType dtype) {
  return row(dtype).size_bytes;
}

std::string_view name(DType dtype) {
  return row(dtype).name;
}

bool is_valid(DType dtype) {
  return static_cast<std::int32_t>(dtype) >= 0 && static_cast<std::size_t>(dtype) < kRows.size();
}

Result<DType> parse_dtype(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string known;
  for (const Row& candidate : kRows) {
    if (candidate.name == upper) return candidate.dtype;
    known += known.empty() ? "" : ", ";
    known += candidate.name;
  }
  return invalid_argument("unknown dtype \"" + std::string(text) + "\"; known are " + known);
}

bool is_convertible(DType src, DType dst) {
  return src == dst || (is_converting_float(src) && is_converting_float(dst));
}

DType wire_dtype(DType src, DType dst) {
  return size_bytes(dst) <= size_bytes(src) ? dst : src;
}

}  // namespace reshard
