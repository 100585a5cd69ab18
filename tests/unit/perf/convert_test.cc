// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace reshard::perf {
namespace {

/// By the format's definition: 10 bits of fraction, exponents from -14, of bias 15. Infinity is the next power of two,
/// which is what rounding takes it for. @pre not negative, and not a NaN
double value_of_half(std::uint32_t bits) {
  const auto exponent = static_cast<int>(bits >> 10U);
  const auto fraction = static_cast<double>(bits & 0x3ffU);
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

std::uint16_t nearest_half(float value) {
  static const std::vector<double> kHalves = [] {
    std::vector<double> halves;
    for (std::uint32_t bits = 0; bits <= 0x7c00; ++bits) halves.push_back(value_of_half(bits));
    return halves;
  }();
  const double size = std::min(std::abs(static_cast<double>(value)), kHalves.back());
  auto bits = static_cast<std::uint32_t>(std::upper_bound(kHalves.begin(), kHalves.end(), size) - kHalves.begin()) - 1;
  if (bits < 0x7c00) {
    const double down = size - kHalves[bits];
    const double up = kHalves[bits + 1] - size;
    if (up < down || (up == down && bits % 2 == 1)) ++bits;
  }
  return static_cast<std::uint16_t>(bits | (std::signbit(value) ? 0x8000U : 0U));
}

TEST(Convert, EveryHalfBecomesItsFloatAndComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half_bits = static_cast<std::uint16_t>(bits);
    const std::uint32_t size = bits & 0x7fffU;
    const float value = float_from_f16(half_bits);
    if (size > 0x7c00) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(float_from_f16(f16_from_float(value)))) << bits;
      continue;
    }
    const float expected =
        size == 0x7c00 ? std::numeric_limits<float>::infinity() : static_cast<float>(value_of_half(size));
    ASSERT_EQ(std::abs(value), expected) << bits;
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
    ASSERT_EQ(f16_from_float(value), half_bits);
  }
}

TEST(Convert, FloatsRoundToTheNearestHalfTiesToEven) {
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 4093) {  // a prime step reaches every exponent
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f16_from_float(value), nearest_half(value)) << value;
  }
}

TEST(Convert, HalvesBetweenTwoNeighboursTieToTheEvenOne) {
  for (std::uint32_t bits = 0; bits + 1 < 0x7c00; ++bits) {
    const float below = float_from_f16(static_cast<std::uint16_t>(bits));
    const float above = float_from_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = below + (above - below) / 2;
    ASSERT_EQ(f16_from_float(middle), (bits + 1) & ~1u) << bits;
    ASSERT_EQ(f16_from_float(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(f16_from_float(std::nextafter(middle, 1e9f)), bits + 1);
  }
}

TEST(Convert, FloatsRoundToTheNearestBfloatTiesToEven) {
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f807fffu)), 0x3f80);
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(bf16_from_float(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(float_from_bf16(bf16_from_float(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Convert, BfloatsComeBackAsTheyWere) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_bf16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(bf16_from_float(value), bits);
  }
}

TEST(Convert, EightBitFloatsHaveTheCodesOfTheirDefinition) {
  // OCP 8-bit floating point specification, E4M3: the largest, the smallest normal and subnormal, and ties to even.
  EXPECT_EQ(e4m3_from_float(448.0f), 0x7e);
  EXPECT_EQ(e4m3_from_float(1e9f), 0x7e);
  EXPECT_EQ(e4m3_from_float(-0x1p-6f), 0x88);
  EXPECT_EQ(e4m3_from_float(0x1p-9f), 0x01);
  EXPECT_EQ(e4m3_from_float(0x1p-10f), 0x00) << "halfway to the smallest, and zero is even";
  EXPECT_EQ(e4m3_from_float(1.0625f), 0x38) << "halfway between 1 and 1.125";
  EXPECT_EQ(e4m3_from_float(1.1875f), 0x3a) << "halfway between 1.125 and 1.25";
  for (int code = 0; code < 0x7f; ++code) {
    EXPECT_EQ(e4m3_from_float(float_from_e4m3(static_cast<std::uint8_t>(code))), code);
  }
}

}  // namespace
}  // namespace reshard::perf
