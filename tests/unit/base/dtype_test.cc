// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/base/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace reshard {
namespace {

struct Expected {
  DType dtype;
  const char* name;
  std::int64_t size_bytes;
};

// The names and sizes of the safetensors format, written down a second time on purpose.
const std::vector<Expected> kExpected = {
    {DType::kBool, "BOOL", 1},      {DType::kU8, "U8", 1},          {DType::kI8, "I8", 1},
    {DType::kF8E4M3, "F8_E4M3", 1}, {DType::kF8E5M2, "F8_E5M2", 1}, {DType::kF8E8M0, "F8_E8M0", 1},
    {DType::kU16, "U16", 2},        {DType::kI16, "I16", 2},        {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},      {DType::kU32, "U32", 4},        {DType::kI32, "I32", 4},
    {DType::kF32, "F32", 4},        {DType::kU64, "U64", 8},        {DType::kI64, "I64", 8},
    {DType::kF64, "F64", 8},
};

TEST(DType, NamesAndSizesAreThoseOfSafetensors) {
  for (const Expected& expected : kExpected) {
    EXPECT_EQ(name(expected.dtype), expected.name);
    EXPECT_EQ(size_bytes(expected.dtype), expected.size_bytes) << expected.name;
  }
}

TEST(DType, ParsesItsNameInAnyCase) {
  for (const Expected& expected : kExpected) {
    const Result<DType> parsed = parse_dtype(expected.name);
    ASSERT_TRUE(parsed.ok()) << expected.name;
    EXPECT_EQ(*parsed, expected.dtype);
  }
  EXPECT_EQ(*parse_dtype("bf16"), DType::kBF16);
  EXPECT_EQ(*parse_dtype("f8_E4m3"), DType::kF8E4M3);
}

TEST(DType, UnknownNamesAreRefusedWithTheKnownOnes) {
  for (const char* text : {"", "BF17", "F32 ", "float32"}) {
    const Result<DType> parsed = parse_dtype(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_NE(parsed.status().message().find(std::string("\"") + text + "\""), std::string::npos);
    EXPECT_NE(parsed.status().message().find("F8_E5M2"), std::string::npos);
  }
}

TEST(DType, IntegersOutsideTheEnumerationAreInvalid) {
  for (const Expected& expected : kExpected) EXPECT_TRUE(is_valid(expected.dtype));
  EXPECT_FALSE(is_valid(static_cast<DType>(-1)));
  EXPECT_FALSE(is_valid(static_cast<DType>(16)));
}

TEST(DType, OnlyThreeFloatsConvertIntoEachOther) {
  const auto floats = {DType::kF32, DType::kBF16, DType::kF16};
  const auto is_float = [&](DType dtype) { return std::find(floats.begin(), floats.end(), dtype) != floats.end(); };
  for (const Expected& src : kExpected) {
    for (const Expected& dst : kExpected) {
      const bool expected = src.dtype == dst.dtype || (is_float(src.dtype) && is_float(dst.dtype));
      EXPECT_EQ(is_convertible(src.dtype, dst.dtype), expected) << src.name << " -> " << dst.name;
    }
  }
}

TEST(DType, TheNarrowerTypeTravelsAndTheDestinationWinsATie) {
  EXPECT_EQ(wire_dtype(DType::kF32, DType::kBF16), DType::kBF16);
  EXPECT_EQ(wire_dtype(DType::kBF16, DType::kF32), DType::kBF16);
  EXPECT_EQ(wire_dtype(DType::kF16, DType::kBF16), DType::kBF16);
  EXPECT_EQ(wire_dtype(DType::kI64, DType::kI64), DType::kI64);
}

}  // namespace
}  // namespace reshard
