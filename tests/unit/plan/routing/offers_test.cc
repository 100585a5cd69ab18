// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/offers.h"

#include <gtest/gtest.h>

#include "tests/optimum/random.h"

namespace reshard::routing {
namespace {

using optimum::Random;

/// Prices that rise, sometimes fall, and are pushed again when they do; each look is compared with all of them.
TEST(OffersTest, TheBestIsTheCheapestOfNowAndOfEqualOnesTheFirst) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    std::vector<Offer> all;
    Offers offers;
    EXPECT_TRUE(offers.empty());
    for (int look = 0; look < 60; ++look) {
      const bool is_new = all.empty() || random.one_in(3);
      if (is_new) all.push_back({0, static_cast<std::uint32_t>(random.between(0, 5)), static_cast<int>(all.size())});
      Offer& offer = all[is_new ? all.size() - 1 : static_cast<std::size_t>(random.between(0, int(all.size()) - 1))];
      const auto price = static_cast<std::uint64_t>(random.between(0, 9));
      const bool is_cheaper = !is_new && price < offer.price;
      offer.price = price;
      if (is_new || is_cheaper) offers.push(offer);
      const Offer& best = offers.best([&](std::int32_t who) { return all[static_cast<std::size_t>(who)].price; });
      const Offer& expected = *std::min_element(all.begin(), all.end(), [](const Offer& a, const Offer& b) {
        return std::tuple{a.price, a.tie, a.who} < std::tuple{b.price, b.tie, b.who};
      });
      ASSERT_EQ(best.who, expected.who) << "seed " << seed << ", look " << look;
      ASSERT_EQ(best.price, expected.price);
    }
    offers.clear();
    EXPECT_TRUE(offers.empty());
  }
}

TEST(OffersTest, ComeOutByPriceThenTieThenNumber) {
  Offers offers;
  for (const Offer& offer : {Offer{2, 0, 1}, Offer{1, 5, 2}, Offer{1, 4, 9}, Offer{1, 4, 3}, Offer{0, 9, 4}}) {
    offers.push(offer);
  }
  for (const std::int32_t who : {4, 3, 9, 2, 1}) {
    EXPECT_EQ(offers.top().who, who);
    EXPECT_EQ(offers.pop().who, who);
  }
  EXPECT_TRUE(offers.empty());
}

}  // namespace
}  // namespace reshard::routing
