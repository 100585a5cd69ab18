// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Conversions against arithmetic on values: exhaustively from the 16-bit types, on boundaries and random bits from f32.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels_under_test.h"
#include "reference.h"

namespace reshard::testing {
namespace {

constexpr std::uint32_t kQuietBit = 0x00400000;

struct Half {
  int index;  // in RowKernels::convert
  const HalfFormat* format;
};
constexpr Half kBF16 = {RowKernels::kBF16, &kBF16Format};
constexpr Half kF16 = {RowKernels::kF16, &kF16Format};
constexpr Half kHalves[] = {kBF16, kF16};

// Through the kernel, from an odd address to another, in rows of a length that vectors do not divide.
template <typename Src, typename Dst>
std::vector<Dst> convert(PieceFn kernel, const std::vector<Src>& values) {
  if (values.empty()) return {};
  std::vector<std::byte> src(values.size() * sizeof(Src) + 1);
  std::vector<std::byte> dst(values.size() * sizeof(Dst) + 3);
  std::memcpy(src.data() + 1, values.data(), values.size() * sizeof(Src));
  constexpr std::int64_t kRow = 61;
  const auto size = static_cast<std::int64_t>(values.size());
  Piece piece{src.data() + 1,
              dst.data() + 3,
              {kRow, sizeof(Src), sizeof(Dst)},
              {size / kRow, kRow * sizeof(Src), kRow * sizeof(Dst)}};
  if (piece.rows.extent > 0) kernel(piece);
  piece.src += size / kRow * piece.rows.src_stride;
  piece.dst += size / kRow * piece.rows.dst_stride;
  piece.cols.extent = size % kRow;
  piece.rows.extent = 1;
  if (piece.cols.extent > 0) kernel(piece);
  std::vector<Dst> result(values.size());
  std::memcpy(result.data(), dst.data() + 3, values.size() * sizeof(Dst));
  return result;
}

std::vector<std::uint16_t> all_halves() {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  return all;
}

// Every number of the format, its neighbours among floats, the ties above it and their neighbours, with both signs.
std::vector<float> boundary_floats(const HalfFormat& format) {
  std::vector<float> floats;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = reference_f32_from_half(static_cast<std::uint16_t>(bits), format);
    const float next = reference_f32_from_half(static_cast<std::uint16_t>(bits + 1), format);
    const auto tie = static_cast<float>((static_cast<double>(value) + static_cast<double>(next)) / 2);
    for (const float at : {value, tie}) {
      for (const std::uint32_t step : {0U, 1U, ~0U}) {
        floats.push_back(std::bit_cast<float>(std::bit_cast<std::uint32_t>(at) + step));
      }
    }
  }
  return floats;
}

void expect_half(std::uint16_t actual, float value, const HalfFormat& format) {
  const std::uint16_t expected = reference_half_from_f32(value, format);
  if (std::isnan(value)) {
    const int quiet_bit = 1 << (format.mantissa_bits - 1);
    ASSERT_TRUE(is_nan_half(actual, format)) << std::hex << std::bit_cast<std::uint32_t>(value) << " -> " << actual;
    ASSERT_NE(actual & quiet_bit, 0) << std::hex << std::bit_cast<std::uint32_t>(value) << " -> " << actual;
    ASSERT_EQ(actual & 0x8000, expected & 0x8000);
  } else {
    ASSERT_EQ(actual, expected) << std::hex << std::bit_cast<std::uint32_t>(value);
  }
}

void expect_float(float actual, std::uint16_t bits, const HalfFormat& format) {
  const float expected = reference_f32_from_half(bits, format);
  const auto actual_bits = std::bit_cast<std::uint32_t>(actual);
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(actual)) << std::hex << bits;
    ASSERT_NE(actual_bits & kQuietBit, 0U) << std::hex << bits;
    ASSERT_EQ(std::signbit(actual), (bits & 0x8000) != 0) << std::hex << bits;
  } else {
    ASSERT_EQ(actual_bits, std::bit_cast<std::uint32_t>(expected)) << std::hex << bits;
  }
}

class ConvertTest : public KernelsTest {};
RESHARD_INSTANTIATE_KERNELS(ConvertTest);

TEST_P(ConvertTest, EveryHalfBecomesTheFloatOfItsValue) {
  const std::vector<std::uint16_t> halves = all_halves();
  for (const Half& half : kHalves) {
    const std::vector<float> floats =
        convert<std::uint16_t, float>(kernels().convert[half.index][RowKernels::kF32], halves);
    for (std::size_t i = 0; i < halves.size(); ++i) expect_float(floats[i], halves[i], *half.format);
  }
}

TEST_P(ConvertTest, EveryHalfSurvivesTheWayThroughF32) {
  const std::vector<std::uint16_t> halves = all_halves();
  for (const Half& half : kHalves) {
    const auto floats = convert<std::uint16_t, float>(kernels().convert[half.index][RowKernels::kF32], halves);
    const auto back = convert<float, std::uint16_t>(kernels().convert[RowKernels::kF32][half.index], floats);
    const int quiet_bit = 1 << (half.format->mantissa_bits - 1);
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const int expected = is_nan_half(halves[i], *half.format) ? halves[i] | quiet_bit : halves[i];
      ASSERT_EQ(back[i], expected) << std::hex << halves[i];
    }
  }
}

TEST_P(ConvertTest, FloatsRoundToTheNearestHalfAndTiesToEven) {
  for (const Half& half : kHalves) {
    const std::vector<float> floats = boundary_floats(*half.format);
    const auto actual = convert<float, std::uint16_t>(kernels().convert[RowKernels::kF32][half.index], floats);
    for (std::size_t i = 0; i < floats.size(); ++i) expect_half(actual[i], floats[i], *half.format);
  }
}

TEST_P(ConvertTest, RandomFloatBitsRoundToTheNearestHalf) {
  EXPECT_TRUE(rc::check([this](const std::vector<std::uint32_t>& some) {
    std::vector<float> floats;
    for (const std::uint32_t bits : some) {
      // RapidCheck prefers small integers; the multiplication spreads them over all exponents.
      for (const std::uint32_t factor : {1U, 2654435761U, 40503U})
        floats.push_back(std::bit_cast<float>(bits * factor));
    }
    for (const Half& half : kHalves) {
      const auto actual = convert<float, std::uint16_t>(kernels().convert[RowKernels::kF32][half.index], floats);
      for (std::size_t i = 0; i < floats.size(); ++i) expect_half(actual[i], floats[i], *half.format);
    }
  }));
}

TEST_P(ConvertTest, EveryHalfBecomesTheNearestOneOfTheOtherFormat) {
  const std::vector<std::uint16_t> halves = all_halves();
  for (const auto& [from, to] : {std::pair{kBF16, kF16}, std::pair{kF16, kBF16}}) {
    const auto actual = convert<std::uint16_t, std::uint16_t>(kernels().convert[from.index][to.index], halves);
    for (std::size_t i = 0; i < halves.size(); ++i) {
      expect_half(actual[i], reference_f32_from_half(halves[i], *from.format), *to.format);
    }
  }
}

TEST(ScalarConvertTest, AgreesWithTheReference) {
  for (const std::uint16_t half : all_halves()) {
    expect_float(f32_from_bf16(half), half, kBF16Format);
    expect_float(f32_from_f16(half), half, kF16Format);
  }
  for (const float value : boundary_floats(kBF16Format)) expect_half(bf16_from_f32(value), value, kBF16Format);
  for (const float value : boundary_floats(kF16Format)) expect_half(f16_from_f32(value), value, kF16Format);
}

TEST(ScalarConvertTest, KnownValuesHaveTheirPublishedBits) {
  EXPECT_EQ(f16_from_f32(65504.0F), 0x7bff);
  EXPECT_EQ(f16_from_f32(65519.996F), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0F), 0x7c00);
  EXPECT_EQ(f16_from_f32(0x1p-24F), 0x0001);
  EXPECT_EQ(f16_from_f32(0x1p-25F), 0x0000);
  EXPECT_EQ(f16_from_f32(-0x1.8p-24F), 0x8002);
  EXPECT_EQ(f32_from_f16(0x3555), 0.333251953125F);
  EXPECT_EQ(bf16_from_f32(1.00390625F), 0x3f80);
  EXPECT_EQ(bf16_from_f32(1.01171875F), 0x3f82);
  EXPECT_EQ(bf16_from_f32(3.4028235e38F), 0x7f80);
  EXPECT_EQ(bf16_from_f32(0x1p-149F), 0x0000);
  EXPECT_EQ(f32_from_bf16(0x4049), 3.140625F);
}

}  // namespace
}  // namespace reshard::testing
