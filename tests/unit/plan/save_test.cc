// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "src/plan/report/report.h"
#include "src/plan/windows.h"
#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard {
namespace {

RC_GTEST_PROP(SaveTest, APlanComesBackAsItWas, (const std::vector<std::uint32_t>& numbers)) {
  testing::Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(8));
  const testing::Scenario scenario = testing::make_scenario(&choices, num_ranks);
  const Result<Plan> plan = create_plan(scenario.src, scenario.dst, {});
  RC_ASSERT(plan.ok());
  const Result<Plan> loaded = load_plan(save_plan(*plan), scenario.src, scenario.dst, nullptr);
  RC_ASSERT(loaded.ok());
  RC_ASSERT(loaded->hash == plan->hash);
  const PlanStats stats = count_plan(*plan);
  const PlanStats stats_loaded = count_plan(*loaded);
  RC_ASSERT(report_json({*loaded, stats_loaded}) == report_json({*plan, stats}));
}

RC_GTEST_PROP(SaveTest, APlanOfAMachineComesBackAsItWas, ()) {
  const std::optional<Plan> plan = testing::random_plan(testing::random_numbers());
  if (!plan.has_value()) return;
  const Result<Plan> loaded = load_plan(save_plan(*plan), plan->src, plan->dst, plan->options.machine);
  RC_LOG() << loaded.status().message();
  RC_ASSERT(loaded.ok());
  RC_ASSERT(loaded->hash == plan->hash);
  RC_ASSERT(loaded->most_in_flight == plan->most_in_flight);
  RC_ASSERT(save_plan(*loaded) == save_plan(*plan));
}

TEST(SaveTest, HowManyMessagesAreInFlightIsPartOfTheHash) {
  Plan plan = *testing::plan_tp({12, 5}, 1, 3, 1, 4);
  plan.most_in_flight /= 2;
  EXPECT_NE(hash_plan(plan), plan.hash);
}

/// Numbers at which readers err, in any of the places of a plan file.
const std::vector<nlohmann::json>& extremes() {
  static const std::vector<nlohmann::json> kExtremes = {0,
                                                        1,
                                                        -1,
                                                        -2,
                                                        INT16_MAX + 1,
                                                        INT32_MAX,
                                                        INT32_MIN,
                                                        std::int64_t{INT32_MAX} + 1,
                                                        INT64_MAX,
                                                        INT64_MIN,
                                                        UINT64_MAX,
                                                        1e300,
                                                        0.5,
                                                        nullptr,
                                                        "1",
                                                        true,
                                                        {1},
                                                        std::int64_t{1} << 32};
  return kExtremes;
}

void expect_refused_or_equal(const nlohmann::json& file, const Plan& plan) {
  const Result<Plan> loaded = load_plan(file.dump(), plan.src, plan.dst, plan.options.machine);
  if (loaded.ok()) {
    EXPECT_EQ(loaded->hash, plan.hash) << file.dump();
  } else {
    EXPECT_TRUE(loaded.status().code() == RESHARD_ERR_PLAN_MISMATCH ||
                loaded.status().code() == RESHARD_ERR_STAGING_TOO_SMALL)
        << loaded.status().message();
  }
}

/// A plan with relays, staging and rounds.
Plan small_machine_plan() {
  Machine machine = testing::hand_machine({{0, 0}, {1, 0}, {1, -1}, {2, 0}, {3, 0}});
  return *testing::plan_tp({12, 5}, 1, 1, 4, 1, testing::options_for(std::move(machine)));
}

TEST(SaveTest, EveryFieldAtItsExtremesIsRefusedOrHarmless) {
  const Plan plan = small_machine_plan();
  const auto file = nlohmann::json::parse(save_plan(plan));
  for (const auto& [key, value] : file.items()) {
    for (const nlohmann::json& extreme : extremes()) {
      nlohmann::json changed = file;
      changed[key] = extreme;
      expect_refused_or_equal(changed, plan);
      for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
        changed[key] = value;
        changed[key][i] = extreme;
        expect_refused_or_equal(changed, plan);
      }
    }
    nlohmann::json without = file;
    without.erase(key);
    expect_refused_or_equal(without, plan);
  }
}

/// All numbers of a plan's choices that a file could bring, but how many ranges a route has: a plan that is wrong there
/// cannot be walked over, and reading counts them before anything else (the test above).
std::vector<std::pair<std::int32_t*, std::int64_t*>> numbers_of(Plan* plan) {
  std::vector<std::pair<std::int32_t*, std::int64_t*>> out;
  for (Route& route : plan->routes.distinct()) {
    for (std::int32_t* n : {&route.num_hops, &route.first_group, &route.first_round, &route.num_rounds})
      out.push_back({n, nullptr});
    out.push_back({nullptr, &route.size_bytes});
  }
  for (Range& range : plan->ranges) {
    out.push_back({&range.bundle, nullptr});
    out.push_back({nullptr, &range.begin});
    out.push_back({nullptr, &range.end});
  }
  for (Hop& hop : plan->hops) {
    for (std::int32_t* n : {&hop.src, &hop.dst, &hop.parent, &hop.delay, &hop.step}) out.push_back({n, nullptr});
  }
  for (std::int32_t& round : plan->rounds) out.push_back({&round, nullptr});
  for (std::int32_t& group : plan->first_groups) out.push_back({&group, nullptr});
  return out;
}

TEST(SaveTest, ChoicesAtTheirExtremesWithTheRightHashAreRefusedOrWhole) {
  const Plan plan = small_machine_plan();
  Plan changed = plan;
  const auto numbers = numbers_of(&changed);
  for (const auto& [narrow, wide] : numbers) {
    const std::int64_t before = narrow != nullptr ? *narrow : *wide;
    for (const std::int64_t extreme :
         {std::int64_t{-1}, std::int64_t{0}, before - 1, before + 1, std::int64_t{INT32_MAX},
          narrow != nullptr ? std::int64_t{INT32_MAX} - 1 : INT64_MAX}) {
      (narrow != nullptr ? * narrow = static_cast<std::int32_t>(extreme) : * wide = extreme);
      changed.hash = hash_plan(changed);
      const Result<Plan> loaded = load_plan(save_plan(changed), plan.src, plan.dst, plan.options.machine);
      if (loaded.ok()) {
        // It is another plan, but one: every window has its place.
        for (std::size_t r = 0; r < loaded->routes.size(); ++r) {
          for (const Window& window : windows_of(*loaded, loaded->routes[r])) {
            for (std::int32_t h = 0; h < loaded->routes[r].num_hops; ++h) {
              EXPECT_GE(
                  window_order(*loaded, static_cast<std::int64_t>(r), window, loaded->begin_hops(loaded->routes[r])[h])
                      .round,
                  0);
            }
          }
        }
      }
    }
    (narrow != nullptr ? * narrow = static_cast<std::int32_t>(before) : * wide = before);
  }
}

TEST(SaveTest, RoundsAreCountedUpToTheirLimit) {
  // Rounds and delays are added up in 32 bits: each may be 2^30 - 1 at most.
  const Plan plan = small_machine_plan();
  const std::vector<Route>& routes = plan.routes.distinct();
  const auto with_rounds =
      std::find_if(routes.begin(), routes.end(), [](const Route& route) { return route.num_rounds > 0; });
  ASSERT_NE(with_rounds, routes.end());
  const std::int64_t last = std::int64_t{with_rounds->first_round} + with_rounds->num_rounds - 1;
  const auto load_with = [&](std::int32_t round, std::int32_t delay) {
    Plan changed = plan;
    at(changed.rounds, last) = round;
    for (Hop& hop : changed.hops) hop.delay += delay;
    changed.hash = hash_plan(changed);
    return load_plan(save_plan(changed), plan.src, plan.dst, plan.options.machine).status();
  };
  constexpr std::int32_t kLimit = std::int32_t{1} << 30;
  EXPECT_TRUE(load_with(kLimit - 1, 0).ok()) << load_with(kLimit - 1, 0).message();
  EXPECT_THAT(load_with(kLimit, 0).message(), ::testing::HasSubstr("rounds that cannot be counted"));
  EXPECT_THAT(load_with(at(plan.rounds, last), kLimit).message(),
              ::testing::HasSubstr("rounds that cannot be counted"));
}

TEST(SaveTest, WhatIsNoPlanIsCalledSo) {
  const Plan plan = small_machine_plan();
  const auto message = [&](const std::string& text) {
    return load_plan(text, plan.src, plan.dst, plan.options.machine).status().message();
  };
  EXPECT_THAT(message("{\"model\": 1}"), ::testing::HasSubstr("not a saved plan"));
  EXPECT_THAT(message("{\n \"a\": 1,\n \"b\" 2}"), ::testing::HasSubstr("line 3, column 6"));
  EXPECT_THAT(message("{\n \"reshard_plan\": 1e999}"), ::testing::HasSubstr("line 2, column 22"));
  const std::string text = save_plan(plan);
  EXPECT_THAT(message(text.substr(0, text.size() / 2)), ::testing::HasSubstr("where it ends"));
}

TEST(SaveTest, AnotherLayoutIsRefused) {
  const Result<Plan> plan = testing::plan_tp({12, 5}, 1, 3, 1, 4);
  const Result<Plan> other = testing::plan_tp({12, 5}, 1, 4, 1, 3);
  ASSERT_TRUE(plan.ok() && other.ok());
  const Result<Plan> loaded = load_plan(save_plan(*plan), other->src, other->dst, nullptr);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.status().code(), RESHARD_ERR_PLAN_MISMATCH);
  EXPECT_THAT(loaded.status().message(), ::testing::HasSubstr("another layout at the source"));
}

TEST(SaveTest, EveryChangedByteIsRefusedOrHarmless) {
  const Result<Plan> plan = testing::plan_tp({12, 5}, 2, 3, 1, 4);
  ASSERT_TRUE(plan.ok());
  const std::string text = save_plan(*plan);
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const char replacement : {'0', '9', '-', '"', ',', ']'}) {
      std::string changed = text;
      changed[i] = replacement;
      const Result<Plan> loaded = load_plan(changed, plan->src, plan->dst, nullptr);
      if (loaded.ok()) {
        EXPECT_EQ(loaded->hash, plan->hash) << changed;
      } else {
        EXPECT_TRUE(loaded.status().code() == RESHARD_ERR_PLAN_MISMATCH ||
                    loaded.status().code() == RESHARD_ERR_STAGING_TOO_SMALL)
            << changed;
      }
    }
  }
}

TEST(SaveTest, TextThatIsNoPlanIsRefused) {
  const Result<Plan> plan = testing::plan_tp({12, 5}, 1, 3, 1, 4);
  ASSERT_TRUE(plan.ok());
  for (const char* text : {"", "{}", "[]", "null", "{\"reshard_plan\": \"1\"}", "{\"reshard_plan\": 1}"}) {
    const Result<Plan> loaded = load_plan(text, plan->src, plan->dst, nullptr);
    ASSERT_FALSE(loaded.ok()) << text;
    EXPECT_EQ(loaded.status().code(), RESHARD_ERR_PLAN_MISMATCH);
  }
  const Result<Plan> newer = load_plan("{\"reshard_plan\": 5}", plan->src, plan->dst, nullptr);
  ASSERT_FALSE(newer.ok());
  EXPECT_THAT(newer.status().message(), ::testing::HasSubstr("format 5"));
}

TEST(SaveTest, APlanOfAnOlderFormatIsRefused) {
  const Result<Plan> plan = testing::plan_tp({12, 5}, 1, 3, 1, 4);
  ASSERT_TRUE(plan.ok());
  std::string text = save_plan(*plan);
  const std::string now = "\"reshard_plan\":4";
  const std::size_t place = text.find(now);
  ASSERT_NE(place, std::string::npos);
  text[place + now.size() - 1] = '3';
  const Result<Plan> older = load_plan(text, plan->src, plan->dst, nullptr);
  ASSERT_FALSE(older.ok());
  EXPECT_EQ(older.status().code(), RESHARD_ERR_PLAN_MISMATCH);
  EXPECT_THAT(older.status().message(), ::testing::HasSubstr("format 3; this library reads 4"));
}

}  // namespace
}  // namespace reshard
