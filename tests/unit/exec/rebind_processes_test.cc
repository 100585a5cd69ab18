// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bindings between processes that follow new tables of experts: over what UCX finds, and over TCP alone.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/unit/exec/follower.h"
#include "tests/unit/transport/ranks.h"

namespace reshard {
namespace {

using test::Kind;
using test::Verdict;

/// Bind, run, an update that one rank spoils, a run of the older binding, updates with memory that moves, runs.
Verdict follow_tables(Transport& t, bool is_mappable) {
  testing::Story story = testing::two_tables();
  story.append({{{3, 1}, {2, 0}}, {{0, 3}, {2, 1}}});
  testing::Follower rank(story, &t, is_mappable, is_mappable);
  RESHARD_REQUIRE_OK(rank.bind());
  RESHARD_REQUIRE_HOLDS(rank.run(1));
  UpdateOptions bad;
  if (t.rank() == 3) bad.arguments = invalid_argument("for once");
  const Status refused = rank.update(1, bad);
  RESHARD_REQUIRE(refused.code() == RESHARD_ERR_INVALID_ARGUMENT);
  RESHARD_REQUIRE_HOLDS(rank.run(2));
  const Status updated = rank.update(1);
  RESHARD_REQUIRE_OK(updated);
  // Only a server that reads a trainer for the first time maps anything.
  RESHARD_REQUIRE(rank.binding->shared_memory().num_mapped() == 0);
  RESHARD_REQUIRE_HOLDS(rank.run(3));
  UpdateOptions moved;
  if (t.rank() == 1) moved.src = {rank.src.move(rank.src.bound().back().id, is_mappable)};
  if (t.rank() == 2) moved.dst = {rank.dst.move(rank.dst.bound().back().id, false)};
  const Status again = rank.update(2, moved);
  RESHARD_REQUIRE_OK(again);
  RESHARD_REQUIRE_HOLDS(rank.run(4));
  RESHARD_REQUIRE_HOLDS(rank.run(5));
  return test::barrier(t);
}

class RebindProcessesTest : public ::testing::TestWithParam<std::tuple<Kind, bool>> {};

TEST_P(RebindProcessesTest, FollowsTablesAndMemoryThatMoves) {
  const bool is_mappable = std::get<1>(GetParam());
  EXPECT_EQ(test::run_ranks(std::get<0>(GetParam()), 4, [&](Transport& t) { return follow_tables(t, is_mappable); }),
            "");
}

#ifdef RESHARD_HAVE_UCX
INSTANTIATE_TEST_SUITE_P(Transports, RebindProcessesTest,
                         ::testing::Combine(::testing::Values(Kind::kLocal, Kind::kUcx, Kind::kUcxTcp),
                                            ::testing::Bool()),
                         [](const auto& path) {
                           return test::name_of(std::get<0>(path.param)) +
                                  (std::get<1>(path.param) ? "Mapped" : "Heap");
                         });
#else
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RebindProcessesTest);
#endif

}  // namespace
}  // namespace reshard
