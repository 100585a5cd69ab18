// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "src/plan/report/report.h"
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
  const Result<Plan> newer = load_plan("{\"reshard_plan\": 3}", plan->src, plan->dst, nullptr);
  ASSERT_FALSE(newer.ok());
  EXPECT_THAT(newer.status().message(), ::testing::HasSubstr("format 3"));
}

}  // namespace
}  // namespace reshard
