// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Quantising, dequantising and making scales on fibers: bits by hand, all values of a type, random ops against loops
// over elements and against the host's lists; what of memory is touched.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "fiber_launch.h"
#include "figure.h"
#include "kernels/copy_list.h"
#include "kernels/scale_bits.h"
#include "kernels/scale_list.h"
#include "observers.h"
#include "random_copies.h"
#include "tests/unit/kernels/reference.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kScaleSeed = 4300;

void check_by_hand(float value) {
  if (std::isnan(value)) return;  // looked for elsewhere
  const float values[4] = {value, -value, value, 1.0F};
  const std::uint32_t codes = pack_e4m3_by_hand(values);
  const std::uint32_t code = scale_bits::e4m3_from_f32(value);
  const std::uint32_t turned = scale_bits::e4m3_from_f32(-value);
  ASSERT_EQ(codes, code | turned << 8 | code << 16 | 0x38000000U) << std::hex << std::bit_cast<std::uint32_t>(value);
}

TEST(ByHandTest, FloatsBecomeTheHostsCodes) {
  for (std::uint32_t exponent = 0; exponent < 256 && !HasFatalFailure(); ++exponent) {
    for (std::uint32_t top = 0; top < 512 && !HasFatalFailure(); ++top) {  // more bits than a code keeps, or loses
      for (const std::uint32_t low : {0U, 1U, 0x3fffU}) {
        check_by_hand(std::bit_cast<float>(exponent << 23 | top << 14 | low));
      }
    }
  }
  std::mt19937_64 random(kScaleSeed);
  for (int i = 0; i < 1000000 && !HasFatalFailure(); ++i) {
    check_by_hand(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
}

TEST(ByHandTest, CodesBecomeTheHostsValues) {
  for (std::uint32_t code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    float values[4];
    unpack_e4m3_by_hand(code | 0x38U << 8 | code << 16 | 0xb8000000U, values);
    const float expected = scale_bits::f32_from_e4m3(static_cast<std::uint8_t>(code));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(values[0]), std::bit_cast<std::uint32_t>(expected));
    EXPECT_EQ(values[1], 1.0F);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(values[2]), std::bit_cast<std::uint32_t>(expected));
    EXPECT_EQ(values[3], -1.0F);
  }
}

// In whole groups and one a time (the rows of odd lengths), with scales that nobody should have, too.
void check_values(DType from, DType to, const std::vector<std::byte>& patterns, const void* scale, DType scale_dtype) {
  for (const std::int64_t left_out : {0, 3}) {
    const std::int64_t count = static_cast<std::int64_t>(patterns.size()) / size_bytes(from) - left_out;
    const AlignedBytes src(count * size_bytes(from));
    std::memcpy(src.data(), patterns.data(), static_cast<std::size_t>(src.size()));
    const AlignedBytes dst(count * size_bytes(to));
    CopyOp op{src.data(), dst.data(), from, to, 1, {count}, {size_bytes(from)}, {size_bytes(to)}, {}};
    op.scales.base = scale;
    op.scales.dtype = scale_dtype;
    CopyList list;
    list.add(op);
    TileTable table;
    run_on_fibers(table, table.add(list), 3);
    std::vector<std::byte> expected(static_cast<std::size_t>(dst.size()));
    op.dst = expected.data();
    CopyList on_host;
    on_host.add(op);
    on_host.run();
    ASSERT_TRUE(are_same(dst.copy(), expected)) << name(from) << " to " << name(to);
  }
}

TEST(ScaleTilesTest, EveryPatternGivesTheHostsBits) {
  std::vector<std::byte> halves;
  std::vector<std::byte> words;
  std::vector<std::byte> codes;
  std::mt19937_64 random(kScaleSeed);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const std::uint32_t word = i << 16 | static_cast<std::uint32_t>(random() & 0xffff);
    for (std::uint32_t b = 0; b < 2; ++b) halves.push_back(static_cast<std::byte>(i >> (8 * b)));
    for (std::uint32_t b = 0; b < 4; ++b) words.push_back(static_cast<std::byte>(word >> (8 * b)));
    codes.push_back(static_cast<std::byte>(i < 4096 ? i : 0x30 + i % 64));
  }
  for (const float scale : {0.01F, -3.0F, 1e-40F, 0x1p125F, 0.0F, HUGE_VALF, NAN}) {
    check_values(DType::kBF16, DType::kF8E4M3, halves, &scale, DType::kF32);
    check_values(DType::kF32, DType::kF8E4M3, words, &scale, DType::kF32);
    check_values(DType::kF8E4M3, DType::kBF16, codes, &scale, DType::kF32);
    check_values(DType::kF8E4M3, DType::kF32, codes, &scale, DType::kF32);
    if (HasFatalFailure()) return;
  }
  for (const int code : {0, 1, 120, 127, 253, 254, 255}) {
    const auto scale = static_cast<std::uint8_t>(code);
    check_values(DType::kBF16, DType::kF8E4M3, halves, &scale, DType::kF8E8M0);
    check_values(DType::kF8E4M3, DType::kF32, codes, &scale, DType::kF8E8M0);
    if (HasFatalFailure()) return;
  }
}

// Blocks of 128 x 128 and of 32, whole and cut, as they are quantised in fact.
TEST(ScaleTilesTest, WeightsInBlocksGiveTheHostsBits) {
  std::mt19937_64 random(kScaleSeed);
  for (const auto& [rows, cols, begin] : {std::tuple{300, 1024, 0}, {130, 512, 64}, {77, 336, 48}, {40, 261, 5}}) {
    for (const bool is_mx : {false, true}) {
      const AlignedBytes src(std::int64_t{rows} * cols * 2);
      for (std::int64_t i = 0; i < src.size(); ++i) src.data()[i] = static_cast<std::byte>(random() & 0x3f);
      const std::int64_t scale_bytes = is_mx ? 1 : 4;
      const std::int64_t row_scales = (begin + cols - 1) / (is_mx ? 32 : 128) + 1;
      std::vector<std::uint32_t> scales(static_cast<std::size_t>(rows * row_scales));
      for (std::uint32_t& scale : scales)
        scale = is_mx ? 0x7c7d7b7eU : 0x3c000000U + (static_cast<std::uint32_t>(random()) & 0x3ffffffU);
      CopyOp op{src.data(), nullptr, DType::kBF16, DType::kF8E4M3, 2, {rows, cols}, {cols * 2, 2}, {cols, 1}, {}};
      op.scales.base = scales.data();
      op.scales.dtype = is_mx ? DType::kF8E8M0 : DType::kF32;
      op.scales.dims[0] = {is_mx ? 1 : 128, is_mx ? 0 : 100, row_scales * scale_bytes};
      op.scales.dims[1] = {is_mx ? 32 : 128, is_mx ? begin % 32 : begin, scale_bytes};
      const AlignedBytes dst(std::int64_t{rows} * cols);
      op.dst = dst.data();
      CopyList list;
      list.add(op);
      TileTable table;
      run_on_fibers(table, table.add(list), 3);
      std::vector<std::byte> expected(static_cast<std::size_t>(dst.size()));
      op.dst = expected.data();
      reference_copy(op);
      ASSERT_TRUE(are_same(dst.copy(), expected))
          << rows << " x " << cols << " from " << begin << (is_mx ? ", MX" : "");
    }
  }
}

TEST(ScaleTilesTest, RandomScalesEqualALoopOverElementsAndTheHostsLists) {
  std::printf("seeds from %llu on\n", static_cast<unsigned long long>(kScaleSeed));
  for (std::uint64_t seed = kScaleSeed; seed < kScaleSeed + 40; ++seed) {
    std::mt19937_64 random(seed);
    RandomScales one = random_scales(&random);
    const AlignedBytes src(static_cast<std::int64_t>(one.src.size()));
    std::memcpy(src.data(), one.src.data(), one.src.size());
    one.op.src = src.data() + one.src_base;
    std::vector<std::byte> looped = one.scales;
    std::vector<std::byte> listed = one.scales;
    one.op.scales = one.scales.data();
    ScaleList on_device;
    on_device.add(one.op);
    TileTable table;
    table.begin_batch();
    table.append(on_device);
    const TileRange batch = table.end_batch();
    RaceDetector races;
    {
      const Watch watch(&races);
      run_on_fibers(table, batch, 1 + static_cast<std::int64_t>(seed % 3));
    }
    ASSERT_TRUE(races.findings().empty()) << races.findings().front() << ", seed " << seed;
    one.op.scales = looped.data();
    reference_scales(one.op);
    ASSERT_TRUE(are_same(one.scales, looped)) << "seed " << seed;
    one.op.scales = listed.data();
    ScaleList on_host;
    on_host.add(one.op);
    on_host.run();
    ASSERT_TRUE(are_same(one.scales, listed)) << "seed " << seed;
  }
}

// A weight of 256 x 2048: sectors that memory sees, against those that it must.
TEST(ScaleTilesTest, SectorsAreTouchedOnce) {
  constexpr std::int64_t kRows = 256;
  constexpr std::int64_t kCols = 2048;
  const float scale = 0.5F;
  for (const auto& [from, to] : {std::pair{DType::kBF16, DType::kF8E4M3},
                                 {DType::kF32, DType::kF8E4M3},
                                 {DType::kF8E4M3, DType::kBF16},
                                 {DType::kF8E4M3, DType::kF32}}) {
    const AlignedBytes src(kRows * kCols * size_bytes(from), std::byte{0});
    const AlignedBytes dst(kRows * kCols * size_bytes(to));
    CopyOp op{src.data(), dst.data(), from, to, 1, {kRows * kCols}, {size_bytes(from)}, {size_bytes(to)}, {}};
    op.scales.base = &scale;
    CopyList list;
    list.add(op);
    TileTable table;
    const TileRange batch = table.add(list);
    SectorCounter counter;
    {
      const Watch watch(&counter);
      run_on_fibers(table, batch, 4);
    }
    const std::string key = std::string("sectors.scaled.") + std::string(name(from)) + "_" + std::string(name(to));
    const double loads = 32.0 * static_cast<double>(counter.loads().distinct) / static_cast<double>(src.size());
    const double stores = 32.0 * static_cast<double>(counter.stores().sectors) / static_cast<double>(dst.size());
    print_figure({key + ".loads", "sectors * 32 / bytes, each once, " + key, loads, "", 1.05});
    print_figure({key + ".stores", "sectors * 32 / bytes stored, " + key, stores, "", 1.05});
    EXPECT_LE(loads, 1.05) << key;
    EXPECT_LE(stores, 1.05) << key;
  }
}

}  // namespace
}  // namespace reshard::testing
