// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/formula.h"

#include <gtest/gtest.h>

#include <vector>

#include "perf/data/convert.h"

namespace reshard::perf {
namespace {

template <typename T>
std::vector<T> read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype) {
  std::vector<T> out(static_cast<std::size_t>(count));
  FormulaSource().read(tensor, first, count, dtype, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

TensorPair make_tensor(reshard_dtype_t src, reshard_dtype_t dst) {
  return {"a", {1000}, 0, 0, src, dst};
}

TEST(Formula, Fnv1a64MatchesPublishedVectors) {
  EXPECT_EQ(fnv1a64(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fnv1a64("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(fnv1a64("foobar"), 0x85944171f73967e8u);
}

TEST(Formula, Splitmix64MatchesTheFirstOutputsOfSeedZero) {
  EXPECT_EQ(splitmix64(0), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(splitmix64(0x9E3779B97F4A7C15u), 0x6E789E6AA1B965F4u);
  EXPECT_EQ(splitmix64(2 * 0x9E3779B97F4A7C15u), 0x06C45D188009454Fu);
}

TEST(Formula, EqualDtypesHoldTheLowBits) {
  const std::uint64_t z = splitmix64(0xaf63dc4c8601ec8cu + 41);
  EXPECT_EQ(read<std::uint8_t>(make_tensor(RESHARD_F8_E4M3, RESHARD_F8_E4M3), 40, 2, RESHARD_F8_E4M3)[1], z & 0xff);
  EXPECT_EQ(read<std::uint16_t>(make_tensor(RESHARD_BF16, RESHARD_BF16), 40, 2, RESHARD_BF16)[1], z & 0xffff);
  EXPECT_EQ(read<std::uint32_t>(make_tensor(RESHARD_F32, RESHARD_F32), 40, 2, RESHARD_F32)[1], z & 0xffffffff);
  EXPECT_EQ(read<std::uint64_t>(make_tensor(RESHARD_I64, RESHARD_I64), 40, 2, RESHARD_I64)[1], z);
  EXPECT_EQ(read<std::uint8_t>(make_tensor(RESHARD_BOOL, RESHARD_BOOL), 40, 2, RESHARD_BOOL)[1], z & 1);
}

TEST(Formula, DifferentDtypesHoldTheSameSmallNumber) {
  const TensorPair tensor = make_tensor(RESHARD_F32, RESHARD_F16);
  const auto wide = read<float>(tensor, 0, 1000, RESHARD_F32);
  const auto narrow = read<std::uint16_t>(tensor, 0, 1000, RESHARD_F16);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const auto number = static_cast<int>(splitmix64(0xaf63dc4c8601ec8cu + i) % 255) - 127;
    ASSERT_EQ(wide[i], static_cast<float>(number)) << "element " << i;
    ASSERT_EQ(float_from_f16(narrow[i]), static_cast<float>(number)) << "element " << i;
  }
}

}  // namespace
}  // namespace reshard::perf
