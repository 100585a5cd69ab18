// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/own_prices.h"

#include <gtest/gtest.h>

#include "tests/unit/plan/hand_machine.h"

namespace reshard::routing {
namespace {

using testing::kMega;

/// Two ranks, the second without a port; prices are squares of the parts of the time.
class OwnPricesTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kFull = Prices::kFullPrice;
  static constexpr std::uint64_t kFloor = Prices::kFloor;
  static constexpr std::int64_t kUnit = std::int64_t{1} << 20;
  static constexpr Time kTime{kUnit, kMega};  // in which a megabyte a second brings a unit: parts of it are exact

  OwnPricesTest() {
    prices.set_exponent(1);
    prices.set_time(kTime);
  }
  Machine machine = testing::hand_machine({{0, 0, kMega, 8 * kMega}, {0, -1, 0, 8 * kMega}});
  Fabric fabric{machine};
  Uses uses{fabric};
  Prices prices{fabric};
};

TEST_F(OwnPricesTest, CountTheBytesThatTheTreeWillCarryOncePerUse) {
  const std::int32_t nic = machine.resource(ResourceKind::kNicOut, 0);
  prices.add(nic, kUnit / 8);
  OwnPrices own(fabric, uses, prices);
  own.begin(kUnit / 8);
  EXPECT_EQ(own.of(nic), kFull / 16 + kFloor);  // 1/8 is there, 1/8 would come
  own.use(nic);
  own.use(nic);
  EXPECT_EQ(own.of(nic), kFull / 4 + kFloor);
  own.begin(3 * kUnit / 8);  // another tree
  EXPECT_EQ(own.of(nic), kFull / 4 + kFloor);
  own.begin(0);
  own.use(nic);  // without bytes of its own a tree sees the prices as they are
  EXPECT_EQ(own.of(nic), kFull / 64 + kFloor);
  EXPECT_EQ(prices.load(nic), kUnit / 8);
}

TEST_F(OwnPricesTest, OfWaysAreSumsOfWhatTheyPass) {
  machine.gpus[RankId(0)].memory.nominal_bytes_per_s = 4 * kMega;
  machine.gpus[RankId(0)].pcie.nominal_bytes_per_s = 2 * kMega;
  const Fabric changed(machine);
  const Uses uses_of_it(changed);
  Prices plain(changed);
  plain.set_exponent(0);
  plain.set_time(kTime);
  OwnPrices own(changed, uses_of_it, plain);
  own.begin(kUnit / 2);  // 1/16 of a link, 1/8 of the memory, 1/4 of PCIe, 1/2 of the port
  EXPECT_EQ(own.link_out(RankId(0)), kFull / 8 + kFull / 16 + 2 * kFloor);
  EXPECT_EQ(own.link_in(RankId(0)), kFull / 8 + kFull / 16 + 2 * kFloor);
  EXPECT_EQ(own.port_out(RankId(0)), kFull / 8 + kFull / 4 + kFull / 2 + 3 * kFloor);
  EXPECT_EQ(own.port_in(RankId(0)), kFull / 8 + kFull / 4 + kFull / 2 + 3 * kFloor);
  EXPECT_EQ(own.link_out(RankId(1)), kFull / 16 + kFloor);
  EXPECT_EQ(own.port_out(RankId(1)), kNoWay);
  EXPECT_EQ(own.port_in(RankId(1)), kNoWay);
  EXPECT_EQ(own.leaf_up(LeafId(0)), 0U);
  EXPECT_EQ(own.pod_down(PodId(0)), 0U);
}

}  // namespace
}  // namespace reshard::routing
