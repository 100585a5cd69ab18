// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// F8_E4M3 and F8_E8M0 against CUDA's own conversions, compiled for the host: another implementation.
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

#include "kernels/float_bits.h"
#include "kernels/scale_bits.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kSeed = 8080;

std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

// Of NaNs ours is the positive one, theirs has the sign of what it came from.
void expect_same_code(float value) {
  const std::uint32_t theirs = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
  ASSERT_EQ(scale_bits::e4m3_from_f32(value), std::isnan(value) ? theirs & 0x7fU : theirs)
      << std::hex << bits_of(value);
}

TEST(Fp8OracleTest, EveryBf16BecomesTheSameCode) {
  for (std::uint32_t i = 0; i < 65536 && !HasFatalFailure(); ++i) {
    expect_same_code(std::bit_cast<float>(i << 16));
    const __nv_bfloat16_raw half{static_cast<unsigned short>(i)};
    const std::uint32_t theirs = __nv_cvt_bfloat16raw_to_fp8(half, __NV_SATFINITE, __NV_E4M3);
    ASSERT_EQ(scale_bits::e4m3_from_f32(std::bit_cast<float>(i << 16)) & 0x7fU, theirs & 0x7fU) << std::hex << i;
  }
}

TEST(Fp8OracleTest, ManyFloatsBecomeTheSameCode) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 3000000 && !HasFatalFailure(); ++i) {
    const auto bits = static_cast<std::uint32_t>(random());
    // Half of them in reach of the type, and of those half close to a tie.
    const std::uint32_t near = (bits & 0x807fffffU) | (116 + bits % 22) << 23;
    const std::uint32_t close = (near & 0xfff80000U) + (static_cast<std::uint32_t>(random() % 5) - 2);
    expect_same_code(std::bit_cast<float>(i % 4 < 2 ? bits : i % 4 == 2 ? near : close));
  }
}

TEST(Fp8OracleTest, EveryCodeHasTheSameValue) {
  for (int i = 0; i < 256; ++i) {
    __nv_fp8_e4m3 code;
    code.__x = static_cast<__nv_fp8_storage_t>(i);
    const auto theirs = static_cast<float>(code);
    const float ours = scale_bits::f32_from_e4m3(static_cast<std::uint8_t>(i));
    ASSERT_TRUE(std::isnan(theirs) ? std::isnan(ours) : bits_of(ours) == bits_of(theirs)) << i;
    __nv_fp8_e8m0 power;
    power.__x = static_cast<__nv_fp8_storage_t>(i);
    const auto their_scale = static_cast<float>(power);
    const float our_scale = scale_bits::f32_from_e8m0(static_cast<std::uint8_t>(i));
    ASSERT_TRUE(std::isnan(their_scale) ? std::isnan(our_scale) : bits_of(our_scale) == bits_of(their_scale)) << i;
  }
}

// The smallest power of two that is not below amax / 448: CUDA rounds the quotient up. A quotient that is no denormal
// is rounded correctly, and no quotient that is above a power of two is rounded to it (the next one above is further
// away).
TEST(Fp8OracleTest, ScalesOfBlocksOf32AreRoundedUp) {
  std::mt19937_64 random(kSeed);
  const auto check = [](float amax) {
    const std::uint32_t theirs = __nv_cvt_float_to_e8m0(amax / 448.0F, __NV_SATFINITE, cudaRoundPosInf);
    ASSERT_EQ(scale_bits::scale_e8m0(bits_of(amax), true), theirs) << amax;
  };
  for (int exponent = -110; exponent < 127; ++exponent) {
    for (const float fraction : {1.0F, 1.5F, std::nextafter(1.75F, 0.0F), 1.75F, std::nextafter(1.75F, 2.0F), 1.99F}) {
      check(std::ldexp(fraction, exponent));
    }
  }
  for (int i = 0; i < 1000000 && !HasFatalFailure(); ++i) {
    const auto bits = static_cast<std::uint32_t>(random()) & 0x7fffffffU;
    const auto amax = std::bit_cast<float>(bits);
    if (amax > 0x1p-110F && !std::isnan(amax) && !std::isinf(amax)) check(amax);
  }
  ASSERT_EQ(scale_bits::scale_e8m0(bits_of(NAN), true), __nv_cvt_float_to_e8m0(NAN, __NV_SATFINITE, cudaRoundPosInf));
}

}  // namespace
}  // namespace reshard::testing
