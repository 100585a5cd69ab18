// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/windows.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/plan/estimate.h"
#include "src/plan/filling.h"
#include "src/plan/save.h"
#include "tests/unit/plan/hand_machine.h"

// Windows of deep routes: a rank sends a window on when it has all of it, so that filling a chain takes a window's time
// for each rank on the way.

namespace reshard {
namespace {

using testing::hand_machine;
using testing::HandRank;
using testing::replicate;

constexpr std::int64_t kGiga = 1'000'000'000;
constexpr std::int64_t kMostBytes = std::int64_t{4} << 20;
constexpr std::int64_t kLeastBytes = std::int64_t{64} << 10;

/// Ranks in domains of their own behind ports of 1 GB/s.
Machine row_of(std::int32_t num_ranks, std::int32_t latency_ns = 0) {
  std::vector<HandRank> ranks;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) ranks.push_back({rank, 0, kGiga});
  Machine machine = hand_machine(ranks);
  for (Machine::Port& port : machine.ports) port.out.latency_ns = port.in.latency_ns = latency_ns;
  return machine;
}

/// From rank 0 to all others, and on from each to the next, whatever routing chose.
Plan chain(const Machine& machine, std::int64_t bytes) {
  PlanOptions options;
  options.machine = std::make_shared<const Machine>(machine);
  std::vector<std::int32_t> others;
  for (std::int32_t rank = 1; rank < machine.num_ranks(); ++rank) others.push_back(rank);
  Plan plan = replicate({0}, others, bytes, options);
  for (const Route& route : plan.routes.distinct()) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      Hop& hop = at(plan.hops, route.first_hop + h);
      hop.src = h == 0 ? 0 : at(plan.hops, route.first_hop + h - 1).dst;
      hop.parent = h - 1;
    }
  }
  EXPECT_TRUE(choose_windows(&plan).ok());
  EXPECT_EQ(plan.window_bytes, kMostBytes);
  fit_windows(&plan);
  return plan;
}

TEST(WindowTest, ChainsFillInAHundredthOfTheTime) {
  const Plan plan = chain(row_of(12), 4 * kGiga / 10);
  const Estimate found = *estimate(plan);
  EXPECT_LE(found.fill_seconds, 0.01 * 0.4);
  EXPECT_GE(found.fill_seconds, 0.0097 * 0.4);  // and no less: 0.4 MB, in steps of 4 KiB
  EXPECT_EQ(plan.window_bytes % 4096, 0);
}

TEST(WindowTest, LongJobsKeepLargeWindows) {
  EXPECT_EQ(chain(row_of(12), 8 * kGiga).window_bytes, kMostBytes);
}

TEST(WindowTest, ShortJobsKeepWindowsThatAreWorthAMessage) {
  EXPECT_EQ(chain(row_of(12), kGiga / 100).window_bytes, kLeastBytes);
}

TEST(WindowTest, WhereLatenciesAreMostOfItWindowsTakeHalfAsLong) {
  // Eleven hops wait 0.2 ms each for latencies, and half as long for ten windows: 110 kB.
  const Plan plan = chain(row_of(12, 100'000), kGiga / 100);
  EXPECT_LE(plan.window_bytes, 11 * 100'000 / 10);
  EXPECT_GE(plan.window_bytes, 11 * 100'000 / 10 - 4096);
}

/// A rank that passes windows on to n others through one link does so one after the other.
TEST(WindowTest, TheLastOfManyWaitsForTheOthers) {
  const Machine machine = hand_machine(std::vector<HandRank>(8));
  PlanOptions options;
  options.machine = std::make_shared<const Machine>(machine);
  Plan plan = replicate({0}, {1, 2, 3, 4, 5, 6, 7}, 64 * testing::kMega, options);
  Route star = *plan.routes.begin();
  star.size_bytes = 64 * testing::kMega;
  star.num_hops = 7;
  star.first_hop = 0;
  plan.hops.clear();
  for (std::int32_t rank = 1; rank < 8; ++rank) {
    plan.hops.push_back({rank == 1 ? 0 : 1, rank, rank == 1 ? -1 : 0});
  }
  FillingCounter counter(plan);
  const std::vector<Filling>& filling = counter.count(star, 1000);
  const std::int64_t rate = Paths(machine).slowest_bytes_per_s(RankId(1), RankId(2));
  EXPECT_EQ(filling[0].waiting, 0);
  for (std::size_t h = 1; h < 7; ++h) {
    EXPECT_EQ(filling[h].waiting, static_cast<std::int64_t>(h) * picoseconds(1000, rate));
  }
}

TEST(WindowTest, WhereGroupsFollowOneAnotherEachFillsAnew) {
  Plan plan = chain(row_of(12), 4 * kGiga / 10);
  const std::int64_t of_one_filling = plan.window_bytes;
  for (std::int32_t group = 1; group < 5; ++group) plan.groups.push_back(group);
  plan.options.open_groups = 2;
  EXPECT_TRUE(choose_windows(&plan).ok());
  fit_windows(&plan);  // five groups, two at a time: three fillings
  EXPECT_LE(plan.window_bytes, of_one_filling / 3 + 4096);
  EXPECT_GE(plan.window_bytes, of_one_filling / 3 - 4096);
}

TEST(WindowTest, OneHopNeedsNoSmallWindows) {
  EXPECT_EQ(chain(row_of(2), kGiga / 100).window_bytes, kMostBytes);
}

TEST(WindowTest, DeepRoutesThatAreShortLeaveWindowsLarge) {
  // All of 0.4 GB to rank 1, and on to the others no more than fills them in a hundredth of that time.
  Plan plan = chain(row_of(12), 4 * kGiga / 10);
  const Route whole = *plan.routes.begin();
  ASSERT_EQ(whole.num_hops, 11);
  const auto fitted_with = [&](std::int64_t deep_bytes) {
    Route direct = whole;
    Route deep = whole;
    direct.size_bytes = 4 * kGiga / 10;
    direct.num_hops = 1;
    deep.size_bytes = deep_bytes;
    plan.routes.clear();
    plan.routes.push_back(direct);
    plan.routes.push_back(deep);
    EXPECT_TRUE(choose_windows(&plan).ok());
    fit_windows(&plan);
    return plan.window_bytes;
  };
  EXPECT_EQ(fitted_with(300'000), kMostBytes);
  EXPECT_LT(fitted_with(500'000), 500'000);
}

/// Each of the others gets a part from the holder and gives it to the rest: all at the same time, or only one of them
/// has something to give.
TEST(WindowTest, WhereNothingCrossesTheHolderServesAllRelaysAtOnce) {
  PlanOptions options;
  options.staging_bytes = 1 << 20;
  options.machine = std::make_shared<const Machine>(hand_machine(std::vector<HandRank>(8)));
  const Plan plan = replicate({0}, {1, 2, 3, 4, 5, 6, 7}, 64 * testing::kMega, options);
  struct Send {
    WindowOrder order;
    std::int32_t receiver = -1;
    std::int64_t bytes = 0;
  };
  std::vector<Send> sends;
  std::vector<std::int64_t> all(8);
  for (std::size_t r = 0; r < plan.routes.size(); ++r) {
    const Route route = plan.routes[r];
    for (const Window& window : windows_of(plan, route)) {
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop hop = plan.begin_hops(route)[h];
        if (hop.src != 0) continue;
        sends.push_back({window_order(plan, static_cast<std::int64_t>(r), window, hop), hop.dst, window.size_bytes});
        at(all, hop.dst) += window.size_bytes;
      }
    }
  }
  std::sort(sends.begin(), sends.end(), [](const Send& a, const Send& b) { return a.order < b.order; });
  std::vector<std::int64_t> first_half(8);
  for (std::size_t i = 0; i < sends.size() / 2; ++i) at(first_half, sends[i].receiver) += sends[i].bytes;
  for (std::int32_t rank = 1; rank < 8; ++rank) {
    EXPECT_GE(at(first_half, rank), at(all, rank) / 3) << rank;
    EXPECT_LE(at(first_half, rank), at(all, rank) * 2 / 3) << rank;
    EXPECT_GT(at(all, rank), 0) << rank;
  }
}

TEST(WindowTest, ASmallBudgetStaysTheLimit) {
  PlanOptions options;
  options.machine = std::make_shared<const Machine>(row_of(3));
  options.staging_bytes = 32 << 10;
  EXPECT_EQ(replicate({0}, {1, 2}, kGiga / 100, options).window_bytes, 16 << 10);
}

TEST(WindowTest, APlanIsSavedWithThem) {
  PlanOptions options;
  options.machine = std::make_shared<const Machine>(row_of(30));
  std::vector<std::int32_t> others;
  for (std::int32_t rank = 1; rank < 30; ++rank) others.push_back(rank);
  const Plan plan = replicate({0}, others, kGiga / 100, options);
  EXPECT_LT(plan.window_bytes, kMostBytes);
  const std::string text = save_plan(plan);
  const Result<Plan> loaded = load_plan(text, plan.src, plan.dst, options.machine);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->window_bytes, plan.window_bytes);
  EXPECT_EQ(loaded->hash, plan.hash);
  const std::string key = "\"window_bytes\":";
  const std::size_t begin = text.find(key) + key.size();
  const std::size_t end = text.find(',', begin);
  for (const char* wrong : {"0", "-1", "4194305", "65535", "true"}) {
    std::string changed = text;
    EXPECT_FALSE(load_plan(changed.replace(begin, end - begin, wrong), plan.src, plan.dst, options.machine).ok())
        << wrong;
  }
}

}  // namespace
}  // namespace reshard
