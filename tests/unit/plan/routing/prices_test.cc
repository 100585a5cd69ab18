// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A price is u^e and a floor, by powers of two that have an exact answer and by the C library's pow.
#include "src/plan/routing/prices.h"

#include <gtest/gtest.h>

#include <cmath>

namespace reshard::routing {
namespace {

constexpr std::uint64_t kFull = Prices::kFullPrice;
constexpr std::uint64_t kFloor = Prices::kFloor;
constexpr std::int64_t kHuge = std::int64_t{1} << 62;

/// Resources of these capacities and no machine: prices ask for nothing else.
struct Resources {
  explicit Resources(std::vector<std::int64_t> capacities) { fabric.capacities = std::move(capacities); }
  Machine machine;
  Fabric fabric{machine};
};

Prices prices_of(const Resources& resources, const Time& time, int log2_exponent = 4) {
  Prices prices(resources.fabric);
  prices.set_exponent(log2_exponent);
  prices.set_time(time);
  return prices;
}

TEST(PricesTest, AreThePowerOfThePartOfTheTimeAndTheFloor) {
  const Resources resources({4096});
  for (int k = 0; k <= 4; ++k) {
    const Prices prices = prices_of(resources, {1000, 1000}, k);  // one second
    const unsigned e = 1U << static_cast<unsigned>(k);
    EXPECT_EQ(prices.at_load(0, 4096), kFull + kFloor);
    EXPECT_EQ(prices.at_load(0, 2048), (kFull >> std::min(e, 63U)) + kFloor);
    EXPECT_EQ(prices.at_load(0, 1024), (kFull >> std::min(2 * e, 63U)) + kFloor);
  }
}

TEST(PricesTest, AreAsThePowerOfRealNumbersSays) {
  const Resources resources({1'000'003});
  for (int k = 0; k <= 7; ++k) {
    const Prices prices = prices_of(resources, {7'000'000, 1'000'000}, k);  // 7 seconds
    const double e = std::exp2(k);
    for (const std::int64_t bytes : {1, 12'345, 700'000, 3'500'000, 5'000'000, 6'666'666, 6'999'999}) {
      const double part = static_cast<double>(bytes) / (7 * 1'000'003.0);
      const double expected = std::pow(part, e) * static_cast<double>(kFull);
      const auto price = static_cast<double>(prices.at_load(0, bytes) - kFloor);
      // The part is off by less than 2 units, and each squaring doubles that and cuts off less than one.
      EXPECT_NEAR(price, expected, 3 * e) << bytes << " bytes, e " << e;
    }
  }
}

TEST(PricesTest, FollowTheLoad) {
  const Resources resources({128, 128});
  Prices prices = prices_of(resources, {1, 1}, 1);
  EXPECT_EQ(prices.of(0), kFloor);
  prices.add(0, 64);
  EXPECT_EQ(prices.of(0), kFull / 4 + kFloor);
  EXPECT_EQ(prices.scarcity(0), kFull / 4);
  EXPECT_EQ(prices.of(1), kFloor);
  EXPECT_EQ(prices.scarcity(1), 0U);
  prices.add(0, -32);
  EXPECT_EQ(prices.of(0), kFull / 16 + kFloor);
  prices.set_exponent(0);
  EXPECT_EQ(prices.of(0), kFull / 4 + kFloor);
  prices.set_time({2, 1});
  EXPECT_EQ(prices.of(0), kFull / 8 + kFloor);
}

TEST(PricesTest, WhatHasNoLimitIsFree) {
  const Resources resources({kUnlimited, 1000});
  Prices prices = prices_of(resources, {1, 1});
  prices.add(0, kHuge);
  EXPECT_EQ(prices.num_resources(), 2);
  for (const std::int32_t resource : {0, prices.num_resources()}) {  // the last stands for all that have no limit
    EXPECT_EQ(prices.of(resource), 0U);
    EXPECT_EQ(prices.at_load(resource, kHuge), 0U);
    EXPECT_EQ(prices.scarcity(resource), 0U);
  }
  EXPECT_EQ(prices.busiest().bytes, 1);
}

TEST(PricesTest, NeverFallWhileTheLoadRisesAndStayBelowEightTimesTheFullPrice) {
  const std::vector<std::int64_t> capacities{1, 1000, 400'000'000'000, kHuge};
  const Resources resources(capacities);
  for (const Time& time : {Time{1, kHuge}, Time{1, std::int64_t{1} << 40}, Time{1, 1}, Time{kHuge, 1}}) {
    for (int k = 0; k <= 7; ++k) {
      const Prices prices = prices_of(resources, time, k);
      for (std::int32_t resource = 0; resource < 4; ++resource) {
        std::uint64_t before = kFloor;
        Wide before_sum = 0;
        for (std::int64_t bytes = 0; bytes < kHuge; bytes += 1 + bytes / 2) {
          const std::uint64_t price = prices.at_load(resource, bytes);
          const Wide sum = prices.potential(resource, bytes);
          ASSERT_GE(price, before);
          ASSERT_LE(price, 8 * kFull + kFloor);
          ASSERT_GE(sum, before_sum);
          before = price;
          before_sum = sum;
        }
      }
    }
  }
}

TEST(PricesTest, AreEightTimesTheFullPriceFromThereOn) {
  const Resources resources({1000});
  const Prices prices = prices_of(resources, {1, 1}, 3);
  EXPECT_LT(prices.at_load(0, 1200), 8 * kFull);  // 1.2^8 = 4.3
  EXPECT_EQ(prices.at_load(0, 1300), 8 * kFull + kFloor);
  EXPECT_EQ(prices.at_load(0, 4000), 8 * kFull + kFloor);
  EXPECT_EQ(prices.at_load(0, kHuge), 8 * kFull + kFloor);
  EXPECT_EQ(prices_of(resources, {1, 1}, 0).at_load(0, kHuge), 4 * kFull + kFloor);  // a part is counted up to 4
}

TEST(PricesTest, AreTheSameForAllSizesOfMachines) {
  for (unsigned bits = 10; bits <= 62; ++bits) {
    const std::int64_t capacity = std::int64_t{1} << bits;
    const Resources resources({capacity});
    for (const Time& time : {Time{capacity, capacity}, Time{1, 1}, Time{kHuge, kHuge}, Time{1024, 1024}}) {
      const Prices prices = prices_of(resources, time, 2);
      EXPECT_EQ(prices.at_load(0, capacity), kFull + kFloor) << "2^" << bits;
      EXPECT_EQ(prices.at_load(0, capacity / 2), kFull / 16 + kFloor) << "2^" << bits;
      EXPECT_EQ(prices.at_load(0, capacity / 1024), kFloor) << "2^" << bits;
    }
  }
}

/// The potential is (e + 1) / time times the integral of prices, which is summed here over small steps.
TEST(PricesTest, AreTheSlopeOfThePotential) {
  constexpr std::int64_t kCapacity = 3'000'000'000;
  const Resources resources({kCapacity});
  for (int k = 0; k <= 7; ++k) {
    const Prices prices = prices_of(resources, {5, 2}, k);  // 2.5 seconds
    constexpr std::int64_t kSteps = 4096;
    constexpr std::int64_t kStep = kCapacity * 5 / 2 / kSteps;
    const double e = std::exp2(k);
    double integral = 0;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      integral += static_cast<double>(prices.at_load(0, step * kStep + kStep / 2)) * static_cast<double>(kStep);
      if ((step + 1) % 512 != 0) continue;
      const auto rise = static_cast<double>(prices.potential(0, (step + 1) * kStep) - prices.potential(0, 0));
      const double expected = (e + 1) / 2.5 * integral;
      // Units that are cut off of price and product, and what sums of steps miss of a power.
      const double rounding = static_cast<double>(kCapacity) * (3 * e + 10) * (e + 1);
      EXPECT_NEAR(rise, expected, expected * 1e-4 + rounding) << "e " << e << ", step " << step;
    }
  }
}

TEST(PricesTest, TheBusiestIsByTimeAndExact) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 61;
  const Resources resources({1000, 4000, kLarge, kLarge + 1, kUnlimited});
  Prices prices = prices_of(resources, {1, 1});
  EXPECT_GT(prices.busiest().bytes, 0);  // nothing is divided by 0 where nothing is loaded
  prices.add(4, kHuge);
  prices.add(1, 3999);
  prices.add(0, 1000);
  EXPECT_EQ(prices.busiest().bytes_per_s, 1000);
  prices.add(1, 2);
  EXPECT_EQ(prices.busiest().bytes_per_s, 4000);
  EXPECT_EQ(prices.busiest().bytes, 4001);
  prices.add(3, kLarge + kLarge / 2);
  prices.add(2, kLarge + kLarge / 2);  // as many bytes, and slower by one byte a second
  EXPECT_EQ(prices.busiest().bytes_per_s, kLarge);
}

}  // namespace
}  // namespace reshard::routing
