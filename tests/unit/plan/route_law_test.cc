// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/plan.h"
#include "src/plan/windows.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/random_machine.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::make_random_machine;
using testing::make_scenario;
using testing::Scenario;

PlanOptions random_options(Choices* choices, std::int32_t num_ranks) {
  PlanOptions options;
  options.staging_bytes = std::int64_t{16} << choices->pick(20);
  options.machine = make_random_machine(choices, num_ranks);
  options.order = static_cast<GroupOrder>(choices->pick(3));
  options.open_groups = choices->pick(3);
  return options;
}

/// A trainer in stages and many replicas of a server: where copies must be made on the way.
Scenario make_fleet(Choices* choices, std::int32_t num_ranks) {
  const auto num_sources = static_cast<std::int32_t>(1 + choices->pick(std::max(1, num_ranks / 3)));
  const bool colocated = choices->pick(4) == 1;
  const std::int32_t first = colocated || num_sources == num_ranks ? 0 : num_sources;
  const std::int64_t num_stages = 1 + choices->pick(num_sources);
  const std::int64_t per_stage = num_sources / num_stages;
  const std::int64_t src_shards = 1 + choices->pick(per_stage);
  const std::int64_t num_dst = num_ranks - first;
  const std::int64_t dst_shards = 1 + choices->pick(std::min<std::int64_t>(4, num_dst));
  auto src = std::make_shared<ModelLayout>(num_ranks);
  auto dst = std::make_shared<ModelLayout>(num_ranks);
  const std::int64_t num_tensors = 1 + choices->pick(8);
  for (std::int64_t t = 0; t < num_tensors; ++t) {
    const Tensor tensor{"t" + std::to_string(t), DType::kBF16, {16 + choices->pick(500), 1 + choices->pick(60)}, t / 2};
    const std::int64_t stage = t * num_stages / num_tensors;
    testing::add_sharded(src.get(), tensor, static_cast<std::int32_t>(stage * per_stage), per_stage / src_shards,
                         src_shards);
    const bool is_replicated = choices->pick(3) == 1;
    testing::add_sharded(dst.get(), tensor, first, is_replicated ? num_dst : num_dst / dst_shards,
                         is_replicated ? 1 : dst_shards, static_cast<int>(choices->pick(2)));
  }
  return {src, dst};
}

/// Numbers enough for every choice; a case is shrunk by zeros.
std::vector<std::uint32_t> random_numbers() {
  return *rc::gen::container<std::vector<std::uint32_t>>(200, rc::gen::inRange<std::uint32_t>(0, 1U << 20));
}

/// A plan over a random machine; nothing when its network does not join those who must meet.
std::optional<Plan> random_plan(const std::vector<std::uint32_t>& numbers) {
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(20));
  const PlanOptions options = random_options(&choices, num_ranks);
  const bool is_fleet = choices.pick(3) > 0;
  const Scenario scenario = is_fleet ? make_fleet(&choices, num_ranks) : make_scenario(&choices, num_ranks);
  Result<Plan> plan = create_plan(scenario.src, scenario.dst, options);
  if (!plan.ok()) {
    RC_LOG() << plan.status().message();
    RC_ASSERT(options.machine->rail_isolated);
    RC_ASSERT(plan.status().message().find("isolated") != std::string::npos);
    return std::nullopt;
  }
  return std::move(plan).take();
}

RC_GTEST_PROP(RouteTest, BringEveryByteOnceToEveryRankThatNeedsIt, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  const auto any = [&](const auto& is) { return std::any_of(plan->hops.begin(), plan->hops.end(), is); };
  RC_CLASSIFY(any([](const Hop& hop) { return hop.to_staging; }), "staging");
  RC_CLASSIFY(any([](const Hop& hop) { return hop.parent >= 0 && hop.delay > 0; }), "chains");
  RC_CLASSIFY(any([](const Hop& hop) { return hop.parent >= 0; }), "relays");
  const Status status = check_routes(*plan);
  RC_LOG() << status.message();
  RC_ASSERT(status.ok());
}

RC_GTEST_PROP(RouteTest, CrossTheNetworkOnceIntoEachDomainAndOnlyIfNobodyInItHoldsTheByte, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  const Machine& machine = *plan->options.machine;
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> entered;  // (domain, bundle): bytes
  for (const Route& route : plan->routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan->begin_hops(route)[h];
      if (machine.same_domain(hop.src, hop.dst)) continue;
      RC_ASSERT(machine.reaches(hop.src, hop.dst));
      for (std::int32_t i = 0; i < route.num_ranges; ++i) {
        const Range& range = plan->begin_ranges(route)[i];
        entered[{at(machine.gpus, hop.dst).domain, range.bundle}] += range.end - range.begin;
      }
    }
  }
  for (const auto& [key, bytes] : entered) {
    const Bundle& bundle = at(plan->bundles, key.second);
    RC_ASSERT(bytes == bundle.size_bytes);
    bool is_held = false;
    bool is_wanted = false;
    for (const std::int32_t rank : at(machine.domains, key.first).ranks) {
      is_held = is_held || plan->sets.contains(bundle.sources, rank);
      is_wanted = is_wanted || plan->sets.contains(bundle.destinations, rank);
    }
    RC_ASSERT(!is_held);
    RC_ASSERT(is_wanted);
  }
}

RC_GTEST_PROP(RouteTest, WindowsHaveOneOrderInWhichTheyComeBeforeTheyLeave, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  std::set<std::tuple<WindowOrder, std::int32_t, std::int32_t>> seen;
  for (std::size_t r = 0; r < plan->routes.size(); ++r) {
    const Route& route = plan->routes[r];
    const auto id = static_cast<std::int64_t>(r);
    for (const Window& window : windows_of(*plan, route)) {
      if (plan->options.open_groups > 0) RC_ASSERT(window.first_group == window.last_group);
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop& hop = plan->begin_hops(route)[h];
        const WindowOrder order = window_order(*plan, id, window, hop);
        RC_ASSERT((seen.insert({order, hop.src, hop.dst}).second));
        if (hop.parent < 0) continue;
        const Hop& parent = plan->begin_hops(route)[hop.parent];
        RC_ASSERT(window_order(*plan, id, window, parent) < order);
        if (parent.to_staging) RC_ASSERT(parent.delay == hop.delay);  // it leaves staging before others come
      }
    }
  }
}

RC_GTEST_PROP(RouteTest, ReceiversOfARouteShareOneOrderOfGroups, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  for (const Route& route : plan->routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan->begin_hops(route)[h];
      if (!hop.to_staging) RC_ASSERT(at(plan->first_groups, hop.dst) == route.first_group);
    }
  }
}

RC_GTEST_PROP(RouteTest, EqualInputsGiveEqualPlans, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  RC_ASSERT(plan->hash == random_plan(numbers)->hash);
}

}  // namespace
}  // namespace reshard
