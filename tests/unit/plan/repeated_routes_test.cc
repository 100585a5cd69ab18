// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "src/plan/save.h"
#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/scenario.h"

// Routes that are kept once and stand for many receivers.

namespace reshard {
namespace {

using ::testing::HasSubstr;

bool is_equal(const Route& a, const Route& b) {
  const auto key = [](const Route& r) {
    return std::tuple{r.first_range, r.first_hop,   r.num_ranges, r.num_hops, r.size_bytes,
                      r.first_group, r.first_round, r.num_rounds, r.receiver};
  };
  return key(a) == key(b);
}

RC_GTEST_PROP(RoutesTest, WalkingAndLookingUpReadWhatWasAdded, (const std::vector<std::uint32_t>& numbers)) {
  testing::Choices choices(numbers);
  Routes routes;
  std::vector<Route> expected;
  std::vector<Route> kept;
  for (std::int64_t steps = choices.pick(20); steps > 0; --steps) {
    Route route;
    route.size_bytes = steps;
    if (kept.empty() || choices.pick(3) == 0) {
      routes.push_back(route);
      expected.push_back(route);
      kept.push_back(route);
    } else if (choices.pick(2) == 0) {
      routes.keep(route);
      kept.push_back(route);
    } else {
      const std::int64_t first = choices.pick(static_cast<std::int64_t>(kept.size()));
      const std::int64_t count = choices.pick(static_cast<std::int64_t>(kept.size()) - first + 1);
      const auto receiver = static_cast<std::int32_t>(choices.pick(3));
      routes.repeat(first, count, receiver);
      for (std::int64_t i = first; i < first + count; ++i) {
        expected.push_back(at(kept, i));
        expected.back().receiver = receiver;
      }
    }
  }
  RC_ASSERT(routes.size() == expected.size());
  std::size_t i = 0;
  for (const Route& route : routes) {
    RC_ASSERT(is_equal(route, at(expected, i)));
    RC_ASSERT(is_equal(at(routes, i), at(expected, i)));
    ++i;
  }
  RC_ASSERT(i == expected.size());
}

TEST(RoutesTest, HopsToTheReceiverNameIt) {
  Plan plan;
  plan.hops = {{3, 5, -1, 0, 0, true}, {5, kReceiver, 0, 0, 1}};
  Route route;
  route.num_hops = 2;
  plan.routes.keep(route);
  for (const std::int32_t receiver : {7, 8}) plan.routes.repeat(0, 1, receiver);
  ASSERT_EQ(plan.routes.size(), 2U);
  EXPECT_EQ(plan.num_hops(), 4);
  for (std::size_t r = 0; r < 2; ++r) {
    const HopIterator hops = plan.begin_hops(plan.routes[r]);
    EXPECT_EQ(hops->dst, 5);
    EXPECT_EQ(hops[1].src, 5);
    EXPECT_EQ(hops[1].dst, static_cast<std::int32_t>(7 + r));
  }
}

/// The same plan with every route for itself.
Plan written_out(const Plan& plan) {
  Plan out = plan;
  out.hops.clear();
  out.routes.clear();
  for (const Route& route : plan.routes) {
    Route own = route;
    own.receiver = -1;
    own.first_hop = static_cast<std::int64_t>(out.hops.size());
    for (std::int32_t h = 0; h < route.num_hops; ++h) out.hops.push_back(plan.begin_hops(route)[h]);
    out.routes.push_back(own);
  }
  return out;
}

RC_GTEST_PROP(RepeatedRoutesTest, HowRoutesAreKeptIsNeitherHashedNorSaved, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  testing::Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(16));
  const testing::Scenario scenario =
      choices.pick(2) == 0 ? testing::make_fleet(&choices, num_ranks) : testing::make_scenario(&choices, num_ranks);
  PlanOptions options;
  options.order = static_cast<GroupOrder>(choices.pick(3));
  options.open_groups = choices.pick(3);
  const Result<Plan> plan = create_plan(scenario.src, scenario.dst, options);
  RC_ASSERT(plan.ok());
  const Plan whole = written_out(*plan);
  RC_CLASSIFY(plan->routes.distinct().size() < plan->routes.size(), "repeated");
  RC_ASSERT(whole.num_hops() == plan->num_hops());
  RC_ASSERT(hash_plan(whole) == plan->hash);
  RC_ASSERT(save_plan(whole) == save_plan(*plan));
  RC_ASSERT(check_routes(whole).ok());
}

/// A matrix of which each of `num_src` ranks has rows, and of which each of `replicas` x `shards` ranks gets its part,
/// and a small one that all of the first have and all of the second get. `first` is the first rank of the second.
Plan trainer_to_replicas(std::int32_t num_src, std::int32_t first, std::int64_t replicas, std::int64_t shards) {
  const std::int32_t num_ranks = std::max(num_src, first + static_cast<std::int32_t>(replicas * shards));
  auto src = std::make_shared<ModelLayout>(num_ranks);
  auto dst = std::make_shared<ModelLayout>(num_ranks);
  const Tensor matrix{"matrix", DType::kBF16, {num_src * 2, 64}, 0};
  testing::add_sharded(src.get(), matrix, 0, 1, num_src);
  testing::add_sharded(dst.get(), matrix, first, replicas, shards, 1);
  const Tensor norm{"norm", DType::kF32, {64}, 1};
  testing::add_sharded(src.get(), norm, 0, num_src, 1);
  testing::add_sharded(dst.get(), norm, first, replicas * shards, 1);
  Result<Plan> plan = create_plan(src, dst, {});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

TEST(RepeatedRoutesTest, ReplicasHaveTheirRoutesOnce) {
  const Result<Plan> plan = testing::plan_tp({240, 241}, 1, 8, 6, 4);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->routes.size(), 6U * 8);  // a receiver's 60 rows lie on two of the eight, which have 30 each
  EXPECT_EQ(plan->routes.distinct().size(), 8U);
  EXPECT_EQ(plan->hops.size(), 8U);
}

TEST(RepeatedRoutesTest, WhatOneReceiverHasBesideItsReplicasCostsThatRouteOnly) {
  const Plan plan = trainer_to_replicas(64, 64, 16, 4);
  EXPECT_EQ(plan.routes.size(), 64U * 64);
  // Each of the four parts of the matrix from each of 64 ranks; and for each receiver the one that brings the norm,
  // too.
  EXPECT_LE(plan.routes.distinct().size(), 4U * 64 + 64);
}

TEST(RepeatedRoutesTest, SourcesAmongTheReceiversCostTheirOwnRoutesOnly) {
  const Plan plan = trainer_to_replicas(64, 0, 16, 4);
  EXPECT_EQ(plan.routes.size(), 64U * 63);  // nobody sends to itself; all hold the norm
  // A part of the matrix goes to 16 ranks: what one of these sends goes to the other 15, and is kept for each.
  EXPECT_LE(plan.routes.distinct().size(), 4U * (48 + 16 * 15));
}

TEST(RepeatedRoutesTest, ThousandsOfRanksKeepWhatDiffers) {
  const Plan plan = trainer_to_replicas(1024, 1024, 64, 8);
  EXPECT_EQ(plan.routes.size(), 1024U * 512);
  // Two senders halve the norm of each receiver.
  EXPECT_LE(plan.routes.distinct().size(), 8U * 1024 + 2 * 512);
  EXPECT_LE(plan.routes.runs().size(), 8U * 512);
}

/// The plan with its runs of routes as `change` makes them.
Plan with_runs(const Plan& plan,
               const std::function<void(std::vector<Routes::Run>*, std::vector<std::int64_t>*)>& change) {
  std::vector<Routes::Run> runs = plan.routes.runs();
  std::vector<std::int64_t> sizes;
  for (std::size_t run = 0; run < runs.size(); ++run) sizes.push_back(plan.routes.size_of(run));
  change(&runs, &sizes);
  Plan out = plan;
  out.routes.clear();
  for (const Route& route : plan.routes.distinct()) out.routes.keep(route);
  for (std::size_t run = 0; run < runs.size(); ++run) {
    out.routes.repeat(runs[run].first_distinct, sizes[run], runs[run].receiver);
  }
  return out;
}

using Runs = std::vector<Routes::Run>*;
using Sizes = std::vector<std::int64_t>*;

TEST(RepeatedRoutesTest, WhatIsWrongForOneReceiverIsFound) {
  const Plan plan = *testing::plan_tp({240, 241}, 1, 8, 6, 4);  // ranks 0 to 7 send, 8 to 31 receive
  ASSERT_TRUE(check_routes(plan).ok());
  ASSERT_EQ(plan.routes.runs().size(), 24U);
  const auto message = [&](const auto& change) { return check_routes(with_runs(plan, change)).message(); };
  EXPECT_EQ(message([](Runs, Sizes) {}), "");
  EXPECT_THAT(message([](Runs runs, Sizes) { runs->pop_back(); }), HasSubstr("to rank 31 exactly once: byte 0 of"));
  EXPECT_THAT(message([](Runs runs, Sizes sizes) {
                runs->push_back(runs->back());
                sizes->push_back(sizes->back());
                runs->front().receiver = 31;
              }),
              HasSubstr("exactly once"));
  EXPECT_THAT(message([](Runs, Sizes sizes) { --sizes->back(); }), HasSubstr("to rank 31 exactly once"));
  EXPECT_THAT(message([](Runs runs, Sizes) { std::swap((*runs)[0].receiver, (*runs)[1].receiver); }),
              HasSubstr("exactly once"));
  EXPECT_THAT(message([](Runs runs, Sizes sizes) {
                runs->push_back((*runs)[0]);
                sizes->push_back((*sizes)[0]);
                runs->back().receiver = 7;  // it sends other parts, and wants none
              }),
              HasSubstr("to rank 7, which does not need it"));
  EXPECT_THAT(message([](Runs runs, Sizes) { runs->back().receiver = 32; }), HasSubstr("for a rank that is none"));
  EXPECT_THAT(message([](Runs runs, Sizes) { runs->back().receiver = -1; }), HasSubstr("for a rank that is none"));
  EXPECT_THAT(message([](Runs runs, Sizes) { runs->front().receiver = -1; }), HasSubstr("between ranks that are none"));
  EXPECT_THAT(message([](Runs runs, Sizes) { runs->back().receiver = 7; }), HasSubstr("comes to its receiver 7 twice"));
  EXPECT_THAT(message([](Runs, Sizes sizes) { ++sizes->back(); }), HasSubstr("is not there"));
  EXPECT_THAT(message([](Runs runs, Sizes sizes) {
                std::erase_if(*runs, [](const Routes::Run& run) { return run.first_distinct == 0; });
                sizes->resize(runs->size());
              }),
              HasSubstr("is no route of any rank"));
}

TEST(RepeatedRoutesTest, ARouteThatIsRepeatedEndsAtItsReceiver) {
  Plan plan = *testing::plan_tp({12, 5}, 1, 2, 3, 1);
  ASSERT_EQ(plan.hops.size(), 2U);
  plan.hops = {{0, kReceiver}, {2, 3, 0, 1, 1}, {1, kReceiver}};
  plan.routes.distinct()[0].num_hops = 2;
  plan.routes.distinct()[1].first_hop = 2;
  EXPECT_THAT(check_routes(plan).message(), HasSubstr("goes on from its receiver"));
}

TEST(RepeatedRoutesTest, EveryReceiverHasTheOrderOfItsRoutes) {
  Plan plan = *testing::plan_tp({12, 5}, 1, 2, 3, 1);
  ASSERT_EQ(plan.hops.size(), 2U);
  plan.groups = {0, 1};
  plan.options.open_groups = 1;
  EXPECT_TRUE(check_routes(plan).ok()) << check_routes(plan).message();
  plan.first_groups[3] = 1;
  EXPECT_THAT(check_routes(plan).message(), HasSubstr("begins with group 0 and its receiver 3 with group 1"));
}

}  // namespace
}  // namespace reshard
