// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/base/indexed_vector.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <unordered_set>

namespace reshard {
namespace {

template <typename Vector, typename Id>
concept IndexedBy = requires(Vector vector, Id id) {
  vector[id];
};

using NameOfRank = IndexedVector<RankId, std::string>;

TEST(IndexedVectorTest, OnlyItsOwnIndexReachesIt) {
  static_assert(IndexedBy<NameOfRank, RankId>);
  static_assert(!IndexedBy<NameOfRank, DomainId>);
  static_assert(!IndexedBy<NameOfRank, int>);
  static_assert(!std::is_convertible_v<int, RankId>);
  static_assert(!std::is_convertible_v<RankId, DomainId>);
  static_assert(std::is_convertible_v<RankId, std::int32_t>);
}

TEST(IndexedVectorTest, IdsWalkOverAllValuesInOrder) {
  NameOfRank names;
  EXPECT_EQ(names.push_back("a"), RankId(0));
  EXPECT_EQ(names.push_back("b"), RankId(1));
  std::string all;
  for (const RankId rank : names.ids()) all += names[rank] + std::to_string(rank);
  EXPECT_EQ(all, "a0b1");
  EXPECT_TRUE(names.contains(RankId(1)));
  EXPECT_FALSE(names.contains(RankId(2)));
  EXPECT_FALSE(names.contains(RankId()));
}

TEST(IndexedVectorTest, OfBoolsCanBeWritten) {
  IndexedVector<RankId, bool> is_here(3, false);
  is_here[RankId(2)] = true;
  EXPECT_EQ(is_here.values(), (std::vector<bool>{false, false, true}));
}

TEST(IndexTest, OrdersAndHashesAsItsNumber) {
  EXPECT_LT(RankId(1), RankId(2));
  EXPECT_EQ(std::unordered_set<RankId>({RankId(3), RankId(3), RankId(4)}).size(), 2u);
  EXPECT_FALSE(RankId().valid());
}

}  // namespace
}  // namespace reshard
