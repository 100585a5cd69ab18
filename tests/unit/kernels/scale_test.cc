// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Quantised copies and scales: bits against arithmetic on values, lists against a loop over elements.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/copy_list_builder.h"
#include "kernels/ieee_mode.h"
#include "kernels/scale_bits.h"
#include "kernels/scale_list.h"
#include "kernels_under_test.h"
#include "reference.h"
#include "tests/unit/kernels_cuda/random_copies.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kSeed = 20261127;

std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

// Around every number of F8_E4M3 and every tie between two, with both signs; every exponent; what is no number.
std::vector<float> telling_floats() {
  std::vector<float> floats;
  const auto add_around = [&](double value) {
    for (const std::uint32_t step : {0U, 1U, ~0U}) {
      const std::uint32_t bits = bits_of(static_cast<float>(value)) + step;
      floats.push_back(std::bit_cast<float>(bits));
      floats.push_back(std::bit_cast<float>(bits ^ 0x80000000U));
    }
  };
  for (int code = 0; code < 0x7e; ++code) {
    const double value = reference_f32_from_e4m3(static_cast<std::uint8_t>(code));
    add_around(value);
    add_around((value + reference_f32_from_e4m3(static_cast<std::uint8_t>(code + 1))) / 2);
  }
  for (int exponent = -149; exponent < 128; ++exponent) add_around(std::ldexp(1.0, exponent));
  for (const double value : {448.0, 464.0, 480.0, 512.0}) add_around(value);
  for (const std::uint32_t bits : {0x7f800000U, 0xff800000U, 0x7fc00000U, 0xffc00000U, 0x7f800001U, 0xff812345U}) {
    floats.push_back(std::bit_cast<float>(bits));
  }
  return floats;
}

TEST(ScaleBitsTest, FloatsRoundToTheNearestCodeAndTiesToEven) {
  for (const float value : telling_floats()) {
    ASSERT_EQ(scale_bits::e4m3_from_f32(value), reference_e4m3_from_f32(value)) << std::hex << bits_of(value);
  }
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 1000000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    ASSERT_EQ(scale_bits::e4m3_from_f32(value), reference_e4m3_from_f32(value))
        << std::hex << bits_of(value) << ", seed " << kSeed;
  }
}

TEST(ScaleBitsTest, EveryCodeHasItsValueAndComesBack) {
  for (int i = 0; i < 256; ++i) {
    const auto code = static_cast<std::uint8_t>(i);
    const float value = scale_bits::f32_from_e4m3(code);
    ASSERT_EQ(bits_of(value), bits_of(reference_f32_from_e4m3(code))) << i;
    ASSERT_EQ(scale_bits::e4m3_from_f32(value), (i & 0x7f) == 0x7f ? 0x7f : i);
    const auto byte = static_cast<std::byte>(i);
    ASSERT_EQ(bits_of(scale_bits::f32_from_e8m0(code)), bits_of(reference_scale(&byte, DType::kF8E8M0))) << i;
  }
}

TEST(ScaleBitsTest, KnownScalesHaveTheirBits) {
  EXPECT_EQ(scale_bits::scale_f32(bits_of(448.0F)), 1.0F);
  EXPECT_EQ(scale_bits::scale_f32(bits_of(1.0F)), 1.0F / 448.0F);
  EXPECT_EQ(scale_bits::scale_f32(0), 1e-4F / 448.0F);
  EXPECT_EQ(scale_bits::scale_f32(bits_of(1e-30F)), 1e-4F / 448.0F);
  EXPECT_EQ(bits_of(scale_bits::scale_f32(0x7f800001U)), 0x7fc00000U);
  for (const bool is_up : {false, true}) {
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(448.0F), is_up), 127);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(256.0F), is_up), 127);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(std::nextafter(448.0F, 1e9F)), is_up), is_up ? 128 : 127);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(511.0F), is_up), is_up ? 128 : 127);
    EXPECT_EQ(scale_bits::scale_e8m0(0, is_up), 0);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(0x1p-119F), is_up), 0);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(0x1p-118F), is_up), 1);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(HUGE_VALF), is_up), 254);
    EXPECT_EQ(scale_bits::scale_e8m0(bits_of(NAN), is_up), 255);
  }
}

class ScaleTest : public KernelsTest {
 protected:
  // One op through a list of the kernels under test, in one go or in small steps.
  void run(const CopyOp& op, std::int64_t budget_bytes, StoreHint hint) const {
    CopyList list(kernels());
    list.add(op);
    CopyList::Position position;
    while (!list.run_some(&position, budget_bytes, hint)) {
    }
  }
};
RESHARD_INSTANTIATE_KERNELS(ScaleTest);

// The whole range of a type in one row, with one scale.
void check_values(const RowKernels& kernels, DType from, DType to, const std::vector<std::byte>& values, float scale) {
  const auto count = static_cast<std::int64_t>(values.size()) / size_bytes(from);
  std::vector<std::byte> got(static_cast<std::size_t>(count * size_bytes(to)));
  std::vector<std::byte> expected = got;
  CopyOp op{values.data(), got.data(), from, to, 1, {count}, {size_bytes(from)}, {size_bytes(to)}, {}};
  op.scales.base = &scale;
  CopyList list(kernels);
  list.add(op);
  list.run();
  op.dst = expected.data();
  reference_copy(op);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto element = static_cast<std::int64_t>(i) / size_bytes(to) * size_bytes(from);
    std::uint32_t bits = 0;
    std::memcpy(&bits, values.data() + element, static_cast<std::size_t>(size_bytes(from)));
    ASSERT_EQ(got[i], expected[i]) << "byte " << i << " of bits " << std::hex << bits << " with scale " << scale;
  }
}

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

const std::vector<float> kScales = {1.0F,   0x1p-7F, 0.0021F, 1e-4F / 448.0F, 3.3F, 0x1p-127F,
                                    1e-40F, 3e38F,   0.0F,    -2.0F,          NAN,  HUGE_VALF};

TEST_P(ScaleTest, EveryBf16IsQuantisedToTheNearestCode) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  for (const float scale : kScales) {
    check_values(kernels(), DType::kBF16, DType::kF8E4M3, bytes_of(all), scale);
    if (HasFatalFailure()) return;
  }
}

TEST_P(ScaleTest, TellingFloatsAreQuantisedToTheNearestCode) {
  for (const float scale : kScales) {
    std::vector<float> floats = telling_floats();
    const std::vector<float> more = floats;
    for (const float value : more) floats.push_back(value * scale);  // so that the quotients are about these
    check_values(kernels(), DType::kF32, DType::kF8E4M3, bytes_of(floats), scale);
    if (HasFatalFailure()) return;
  }
}

TEST_P(ScaleTest, EveryCodeIsDequantised) {
  std::vector<std::uint8_t> all(256);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i);
  for (const float scale : kScales) {
    check_values(kernels(), DType::kF8E4M3, DType::kF32, bytes_of(all), scale);
    check_values(kernels(), DType::kF8E4M3, DType::kBF16, bytes_of(all), scale);
    if (HasFatalFailure()) return;
  }
}

TEST_P(ScaleTest, RandomScaledCopiesEqualALoopOverElements) {
  std::printf("seeds from %llu on\n", static_cast<unsigned long long>(kSeed));
  for (std::uint64_t seed = kSeed; seed < kSeed + 400; ++seed) {
    std::mt19937_64 random(seed);
    const RandomCopy copy = random_scaled_copy(&random);
    std::vector<std::byte> got = copy.dst;
    std::vector<std::byte> expected = copy.dst;
    const std::int64_t budget_bytes = seed % 2 == 0 ? std::int64_t{1} << 40 : 1000;
    run(copy.bind(copy.src.data(), got.data()), budget_bytes,
        seed % 3 == 0 ? StoreHint::kStreaming : StoreHint::kCached);
    reference_copy(copy.bind(copy.src.data(), expected.data()));
    ASSERT_EQ(got, expected) << "seed " << seed;
  }
}

// A mode of the thread in which denormals are zero and rounding is downward, as a framework might leave it.
class OddMode {
 public:
  OddMode() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80 | kFlushes | kRoundsDown); }
  ~OddMode() { _mm_setcsr(before_); }
  static unsigned int now() { return _mm_getcsr() & ~0x3fU; }
  static constexpr unsigned int kFlushes = 0x8040;
  static constexpr unsigned int kRoundsDown = 0x2000;

 private:
  unsigned int before_;
};

TEST_P(ScaleTest, TheModeOfTheThreadChangesNothingAndStays) {
  std::vector<float> floats = telling_floats();
  const float scale = 0x1.8p-126F;
  for (float& value : floats) value *= scale;  // many are denormals
  const auto count = static_cast<std::int64_t>(floats.size());
  std::vector<std::byte> codes(floats.size());
  std::vector<std::byte> back(floats.size() * 4);
  CopyOp quantise{floats.data(), codes.data(), DType::kF32, DType::kF8E4M3, 1, {count}, {4}, {1}, {}};
  CopyOp dequantise{codes.data(), back.data(), DType::kF8E4M3, DType::kF32, 1, {count}, {1}, {4}, {}};
  quantise.scales.base = dequantise.scales.base = &scale;
  {
    const OddMode mode;
    run(quantise, 1000, StoreHint::kAuto);
    run(dequantise, 1000, StoreHint::kAuto);
    EXPECT_EQ(OddMode::now(), 0x1f80 | OddMode::kFlushes | OddMode::kRoundsDown);
  }
  std::vector<std::byte> expected_codes(codes.size());
  std::vector<std::byte> expected_back(back.size());
  quantise.dst = expected_codes.data();
  reference_copy(quantise);
  EXPECT_EQ(codes, expected_codes);
  dequantise.dst = expected_back.data();
  reference_copy(dequantise);
  EXPECT_EQ(back, expected_back);
}

// ---- scales

TEST_P(ScaleTest, RandomScalesEqualALoopOverElements) {
  std::printf("seeds from %llu on\n", static_cast<unsigned long long>(kSeed));
  for (std::uint64_t seed = kSeed; seed < kSeed + 400; ++seed) {
    std::mt19937_64 random(seed);
    RandomScales one = random_scales(&random);
    one.op.src = one.src.data() + one.src_base;
    std::vector<std::byte> expected = one.scales;
    one.op.scales = one.scales.data();
    ScaleList list(kernels());
    list.add(one.op);
    const OddMode mode;
    ScaleList::Position position;
    int num_turns = 1;
    while (!list.run_some(&position, seed % 2 == 0 ? 100 : std::int64_t{1} << 40)) ++num_turns;
    const IeeeMode plain;
    one.op.scales = expected.data();
    reference_scales(one.op);
    ASSERT_EQ(one.scales, expected) << "seed " << seed;
    ASSERT_TRUE(seed % 2 == 0 || num_turns == 1);
  }
}

TEST(ScaleListTest, ANaNSpoilsItsBlockAndNoOther) {
  std::vector<float> values(64, 1.0F);
  values[40] = std::bit_cast<float>(0xff800001U);
  float scales[2] = {};
  ScaleList list;
  list.add({values.data(), scales, DType::kF32, ScaleRule::kF32, 1, {64}, {32}, {4}, {4}});
  list.run();
  EXPECT_EQ(scales[0], 1.0F / 448.0F);
  EXPECT_EQ(bits_of(scales[1]), 0x7fc00000U);
}

// ---- what lists share

// A weight of `rows` x `cols` in blocks of 128 x 128, cut into pieces of `step` elements of the flat range.
TEST(ScaleListsTest, QuantisedInFragmentsAWeightIsTheSame) {
  constexpr std::int64_t kRows = 200;
  constexpr std::int64_t kCols = 300;
  std::mt19937_64 random(kSeed);
  std::vector<float> weight(kRows * kCols);
  for (float& value : weight) value = std::normal_distribution<float>(0, 0.02F)(random);
  float scales[2][3];
  ScaleList make;
  make.add(
      {weight.data(), scales, DType::kF32, ScaleRule::kF32, 2, {kRows, kCols}, {128, 128}, {kCols * 4, 4}, {12, 4}});
  make.run();
  const auto op_of = [&](std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols, std::byte* to) {
    CopyOp op{&weight[static_cast<std::size_t>(row * kCols + col)],
              to + row * kCols + col,
              DType::kF32,
              DType::kF8E4M3,
              2,
              {rows, cols},
              {kCols * 4, 4},
              {kCols, 1},
              {}};
    op.scales = {&scales[row / 128][col / 128], DType::kF32, {{128, row % 128, 12}, {128, col % 128, 4}}};
    return op;
  };
  std::vector<std::byte> whole(weight.size());
  CopyList list;
  list.add(op_of(0, 0, kRows, kCols, whole.data()));
  list.run();
  for (const std::int64_t step : {1, 77, 300, 4096}) {
    std::vector<std::byte> pieces(weight.size());
    CopyListBuilder builder(std::make_shared<CopyTable>());
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t col = 0; col < kCols; col += step) {
        builder.add(op_of(row, col, 1, std::min(step, kCols - col), pieces.data()));
      }
    }
    builder.take().run();
    EXPECT_EQ(pieces, whole) << step;
  }
}

// Experts one after another: their copies and their scales a constant step apart are one copy of one more dim.
TEST(ScaleListsTest, RunsFoldWithTheirScales) {
  std::vector<std::uint16_t> src(8 * 256, 0x3f80);
  std::vector<std::byte> dst(8 * 256);
  std::vector<float> scales(8 * 2);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 1.0F / static_cast<float>(1 + i % 7);
  const auto table = std::make_shared<CopyTable>();
  CopyListBuilder builder(table);
  const auto add = [&](std::size_t i, std::size_t scale) {
    CopyOp op{&src[i * 256], &dst[i * 256], DType::kBF16, DType::kF8E4M3, 1, {256}, {2}, {1}, {}};
    op.scales = {&scales[scale], DType::kF32, {{128, 0, 4}}};
    builder.add(op);
  };
  for (std::size_t i = 0; i < 4; ++i) add(i, 2 * i);
  for (std::size_t i = 4; i < 8; ++i) add(i, i == 5 ? 0 : 2 * i);  // a step of its own in between
  const CopyList list = builder.take();
  EXPECT_LT(list.num_ops(), 5U);
  list.run();
  for (std::size_t i = 0; i < dst.size(); ++i) {
    const std::size_t expert = i / 256;
    const std::size_t scale = expert == 5 ? i / 128 % 2 : i / 128;
    ASSERT_EQ(dst[i], static_cast<std::byte>(scale_bits::e4m3_from_f32(1.0F / scales[scale]))) << i;
  }
}

// A list that repeats another with its scales further on, and one whose scales do not move along.
TEST(ScaleListsTest, RepeatsOfAPatternHaveTheirOwnScales) {
  constexpr std::size_t kLists = 5;
  std::vector<float> src(kLists * 64, 1.0F);
  std::vector<std::byte> dst(kLists * 64);
  float scales[kLists] = {1.0F, 0.5F, 0.25F, 0.125F, 2.0F};
  const std::size_t scale_of[kLists] = {0, 1, 2, 3, 0};
  const auto table = std::make_shared<CopyTable>();
  std::vector<CopyList> lists;
  for (std::size_t i = 0; i < kLists; ++i) {
    CopyListBuilder builder(table);
    CopyOp op{&src[i * 64], &dst[i * 64], DType::kF32, DType::kF8E4M3, 1, {64}, {4}, {1}, {}};
    op.scales.base = &scales[scale_of[i]];
    builder.add(op);
    lists.push_back(builder.take());
  }
  EXPECT_EQ(table->num_patterns(), 2U);
  for (const CopyList& list : lists) list.run();
  for (std::size_t i = 0; i < dst.size(); ++i) {
    ASSERT_EQ(dst[i], static_cast<std::byte>(scale_bits::e4m3_from_f32(1.0F / scales[scale_of[i / 64]]))) << i;
  }
}

TEST(ScaleListsTest, DimsMergeWhereScalesGoOn) {
  float scale = 1;
  std::byte memory[16384];
  CopyOp op{memory, memory + 8192, DType::kBF16, DType::kF8E4M3, 2, {8, 64}, {128, 2}, {64, 1}, {}};
  op.scales = {&scale, DType::kF8E8M0, {{1, 0, 2}, {32, 0, 1}}};  // MXFP8: blocks of 32 along the rows
  EXPECT_EQ(canonical(op).num_dims, 1);
  EXPECT_EQ(canonical(op).dims[0].scale, (ScaleDim{32, 0, 1}));
  op.scales.dims[0].stride_bytes = 4;  // rows of scales with a gap
  EXPECT_EQ(canonical(op).num_dims, 2);
  op.scales.dims[0].stride_bytes = 2;
  op.scales.dims[1] = {32, 16, 1};
  EXPECT_EQ(canonical(op).num_dims, 2);
  op.scales.dims[1] = {128, 0, 1};  // lies within one block
  op.scales.dims[0] = {8, 0, 1};
  EXPECT_EQ(canonical(op).num_dims, 1);
  EXPECT_EQ(canonical(op).dims[0].scale, ScaleDim{});
}

}  // namespace
}  // namespace reshard::testing
