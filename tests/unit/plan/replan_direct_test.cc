// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/replan.h"
#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/legs.h"

// Plans without a machine that are made anew around what stays.

namespace reshard {
namespace {

using testing::Choices;
using testing::destinations;
using testing::legs;

/// A plan of a fleet without a machine.
Plan direct_plan(Choices* choices) {
  const auto num_ranks = static_cast<std::int32_t>(2 + choices->pick(20));
  PlanOptions options = testing::random_options(choices, num_ranks);
  options.machine = nullptr;
  const testing::Scenario fleet = testing::make_fleet(choices, num_ranks);
  Result<Plan> plan = create_plan(fleet.src, fleet.dst, options);
  RC_LOG() << plan.status().message();
  RC_ASSERT(plan.ok());
  return std::move(plan).take();
}

/// Whether bundles stay apart without these ranks. Those that have the same destinations then are one bundle, which is
/// planned anew.
bool stay_apart(const Plan& plan, const std::vector<std::int32_t>& lost) {
  std::set<std::pair<std::int32_t, std::vector<std::int32_t>>> seen;
  for (const Bundle& bundle : plan.bundles) {
    std::vector<std::int32_t> left = plan.sets.ranks(bundle.destinations);
    std::erase_if(left, [&](std::int32_t rank) { return std::binary_search(lost.begin(), lost.end(), rank); });
    if (!left.empty() && !seen.emplace(bundle.sources, left).second) return false;
  }
  return true;
}

RC_GTEST_PROP(ReplanDirectTest, TheSameLayoutsKeepAllRoutesAsTheyAre, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const Plan plan = direct_plan(&choices);
  Changes changes;
  const Result<Plan> again = replan(plan, plan.src, plan.dst, &changes);
  RC_ASSERT(again.ok());
  RC_ASSERT(changes.bytes_changed == 0);
  RC_ASSERT(legs(*again) == legs(plan));
  RC_ASSERT(again->routes.distinct().size() == plan.routes.distinct().size());
  RC_ASSERT(again->ranges.size() == plan.ranges.size());
  RC_ASSERT(again->most_in_flight == plan.most_in_flight);
  RC_CLASSIFY(plan.routes.distinct().size() < plan.routes.size(), "repeated");
}

RC_GTEST_PROP(ReplanDirectTest, WhoStaysKeepsItsRoutesWhoIsNewGetsSome, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const Plan plan = direct_plan(&choices);
  std::vector<std::int32_t> lost;
  for (const std::int32_t rank : destinations(plan)) {
    if (choices.pick(4) == 0) lost.push_back(rank);
  }
  if (lost.size() == destinations(plan).size() || !stay_apart(plan, lost)) return;
  auto fewer_dst = std::make_shared<ModelLayout>(*plan.dst);
  RC_ASSERT(fewer_dst->remove_ranks(lost).ok());
  Changes changes;
  const Result<Plan> fewer = replan(plan, plan.src, fewer_dst, &changes);
  RC_LOG() << fewer.status().message();
  RC_ASSERT(fewer.ok());
  RC_ASSERT(changes.bytes_changed == 0);
  auto expected = legs(plan);
  std::erase_if(expected,
                [&](const auto& leg) { return std::find(lost.begin(), lost.end(), leg.first.second) != lost.end(); });
  RC_ASSERT(legs(*fewer) == expected);
  // And back: the lost ranks are new. What was there stays again.
  const Result<Plan> back = replan(*fewer, plan.src, plan.dst, &changes);
  RC_LOG() << back.status().message();
  RC_ASSERT(back.ok());
  const auto all = legs(*back);
  for (const auto& [leg, bytes] : expected) RC_ASSERT(all.at(leg) == bytes);
  std::int64_t new_bytes = 0;
  for (const auto& [leg, bytes] : all) new_bytes += expected.count(leg) > 0 ? 0 : bytes;
  RC_ASSERT(changes.bytes_changed == new_bytes);
  RC_CLASSIFY(new_bytes > 0, "partly new");
}

}  // namespace
}  // namespace reshard
