// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "src/plan/report/advice.h"
#include "src/plan/report/compare.h"
#include "tests/unit/plan/element_oracle.h"
#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/hand_machine.h"

namespace reshard {
namespace {

using testing::Mask;
using testing::Need;

struct Moved {
  std::int64_t moved = 0;
  std::int64_t network = 0;
};

/// What moves if rank takes[i] does what ranks[i] was to do.
Moved cost_of(const std::map<Need, std::int64_t>& needs, const Machine& machine, const std::vector<std::int32_t>& ranks,
              const std::vector<std::int32_t>& takers) {
  Moved out;
  for (const auto& [need, bytes] : needs) {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if ((need.wanted >> ranks[i] & 1U) == 0 || (need.sources >> takers[i] & 1U) != 0) continue;
      out.moved += bytes;
      bool is_near = false;
      for (std::int32_t r = 0; r < machine.num_ranks(); ++r) {
        is_near = is_near || ((need.sources >> r & 1U) != 0 && machine.same_domain(RankId(r), RankId(takers[i])));
      }
      if (!is_near) out.network += bytes;
    }
  }
  return out;
}

RC_GTEST_PROP(AdviceTest, IsTheBestOfAllPermutations, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  testing::Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(6));
  PlanOptions options = testing::random_options(&choices, num_ranks);
  const testing::Scenario scenario = testing::make_scenario(&choices, num_ranks);
  const Result<Plan> plan = create_plan(scenario.src, scenario.dst, options);
  if (!plan.ok()) return;  // isolated rails
  const Result<Advice> advice = advise_ranks(*plan);
  RC_ASSERT(advice.ok());
  const auto needs = testing::needs_of(*plan->src, *plan->dst);
  std::vector<std::int32_t> ranks;
  for (std::int32_t r = 0; r < num_ranks; ++r) {
    if (std::any_of(needs.begin(), needs.end(), [&](const auto& n) { return (n.first.wanted >> r & 1U) != 0; })) {
      ranks.push_back(r);
    }
  }
  RC_ASSERT(advice->ranks == ranks);
  const Moved now = cost_of(needs, *options.machine, ranks, ranks);
  RC_ASSERT(advice->moved_bytes_now == now.moved);
  RC_ASSERT(advice->network_bytes_now == now.network);
  std::int64_t best = now.moved + now.network;
  std::vector<std::int32_t> takers = ranks;
  do {
    const Moved cost = cost_of(needs, *options.machine, ranks, takers);
    best = std::min(best, cost.moved + cost.network);
  } while (std::next_permutation(takers.begin(), takers.end()));
  RC_ASSERT(advice->moved_bytes_best + advice->network_bytes_best == best);
  RC_CLASSIFY(best < now.moved + now.network, "better");
  // The advice itself costs that: the rank ranks[i] takes the place of takes[i].
  std::vector<std::int32_t> places = advice->takes;
  const Moved advised = cost_of(needs, *options.machine, places, ranks);
  RC_ASSERT(advised.moved == advice->moved_bytes_best);
  RC_ASSERT(advised.network == advice->network_bytes_best);
  std::sort(places.begin(), places.end());
  RC_ASSERT(places == ranks);
}

const OtherWay* find(const std::vector<OtherWay>& ways, const std::string& word) {
  for (const OtherWay& way : ways) {
    if (way.name.find(word) != std::string::npos) return &way;
  }
  return nullptr;
}

RC_GTEST_PROP(OtherWaysTest, GatheringBringsNoFewerBytesThanUnicast, ()) {
  const std::optional<Plan> plan = testing::random_plan(testing::random_numbers());
  if (!plan.has_value()) return;
  // A rank without a port gets its part of the broadcast from a neighbour, and its own copy over the network.
  const auto& gpus = plan->options.machine->gpus;
  if (std::any_of(gpus.begin(), gpus.end(), [](const Machine::Gpu& gpu) { return gpu.port < 0; })) return;
  const std::vector<OtherWay> ways = other_ways(*plan);
  const OtherWay* gather = find(ways, "gather");
  const OtherWay* unicast = find(ways, "unicast");
  RC_ASSERT((gather != nullptr && unicast != nullptr));
  RC_ASSERT(gather->bytes_network >= unicast->bytes_network);
}

TEST(OtherWaysTest, TakeWhatTheyTakeByHand) {
  // 4 MB in halves on n0; both ranks of n1 want all of it. Ports of 1 MB/s, each rank its own.
  const Machine machine = testing::hand_machine({{0, 0}, {0, 1}, {1, 0}, {1, 1}});
  const Result<Plan> plan = testing::plan_tp({2000, 1000}, 1, 2, 2, 1, testing::options_for(machine));
  ASSERT_TRUE(plan.ok());
  const std::vector<OtherWay> ways = other_ways(*plan);
  const OtherWay* gather = find(ways, "gather");
  const OtherWay* unicast = find(ways, "unicast");
  ASSERT_NE(gather, nullptr);
  ASSERT_NE(unicast, nullptr);
  EXPECT_EQ(gather->bytes_network, 2 * 4 * testing::kMega);
  EXPECT_DOUBLE_EQ(gather->seconds, 4.0);
  EXPECT_EQ(unicast->bytes_network, 2 * 4 * testing::kMega);
  EXPECT_DOUBLE_EQ(unicast->seconds, 4.0);
}

TEST(OtherWaysTest, UnicastBringsEveryByteOverIsolatedRails) {
  // 4 MB of n0, which has rail 0 only, for both ranks of n1, of which the second has rail 1 only: its copy comes by its
  // neighbour's port, and over links of 8 MB/s.
  Machine machine = testing::hand_machine({{0, 0}, {1, 0}, {1, 1}});
  machine.rail_isolated = true;
  const Result<Plan> plan = testing::plan_tp({2000, 1000}, 1, 1, 2, 1, testing::options_for(machine));
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const std::vector<OtherWay> ways = other_ways(*plan);
  const OtherWay* unicast = find(ways, "unicast");
  ASSERT_NE(unicast, nullptr);
  EXPECT_EQ(unicast->bytes_network, 2 * 4 * testing::kMega);
  EXPECT_DOUBLE_EQ(unicast->seconds, 8.0);
}

}  // namespace
}  // namespace reshard
