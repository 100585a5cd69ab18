// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "src/plan/plan.h"
#include "src/plan/windows.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::random_numbers;
using testing::random_plan;

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

/// A domain is entered once, and again only where a rank that wants the byte gets it sooner so than over its links. One
/// that neither has nor wants it may pass it on, if the way through it is the quicker one.
RC_GTEST_PROP(RouteTest, CrossTheNetworkWhereItJoinsAndNoOftenerThanRanksWantTheByte, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  const Machine& machine = *plan->options.machine;
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> entered;  // (domain, bundle): bytes
  for (const Route& route : plan->routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan->begin_hops(route)[h];
      if (machine.same_domain(RankId(hop.src), RankId(hop.dst))) continue;
      RC_ASSERT(machine.reaches(RankId(hop.src), RankId(hop.dst)));
      for (const Range& range : plan->ranges_of(route)) {
        entered[{at(machine.gpus, hop.dst).domain, range.bundle}] += range.end - range.begin;
      }
    }
  }
  for (const auto& [key, bytes] : entered) {
    const Bundle& bundle = at(plan->bundles, key.second);
    std::int64_t num_lacking = 0;
    for (const std::int32_t rank : at(machine.domains, key.first).ranks) {
      const bool is_lacking =
          plan->sets.contains(bundle.destinations, rank) && !plan->sets.contains(bundle.sources, rank);
      num_lacking += is_lacking ? 1 : 0;
    }
    RC_ASSERT(bytes <= std::max<std::int64_t>(1, num_lacking) * bundle.size_bytes);
  }
}

RC_GTEST_PROP(RouteTest, WindowsHaveOneOrderInWhichTheyComeBeforeTheyLeave, ()) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> plan = random_plan(numbers);
  if (!plan.has_value()) return;
  std::vector<std::tuple<WindowOrder, std::int32_t, std::int32_t>> orders;
  // A few plans have most of all windows: of each, the first routes with so many.
  constexpr std::size_t kEnough = 5000;
  for (std::size_t r = 0; r < plan->routes.size() && orders.size() < kEnough; ++r) {
    const Route& route = plan->routes[r];
    const auto id = static_cast<std::int64_t>(r);
    std::int32_t position = 0;  // in the receivers' order of groups, which the windows follow
    for (const Window& window : windows_of(*plan, route)) {
      RC_ASSERT(position <= plan->position_of(window.first_group, route.first_group));
      position = plan->position_of(window.last_group, route.first_group);
      if (plan->options.open_groups > 0) RC_ASSERT(window.first_group == window.last_group);
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop& hop = plan->begin_hops(route)[h];
        const WindowOrder order = window_order(*plan, id, window, hop);
        orders.emplace_back(order, hop.src, hop.dst);
        if (hop.parent < 0) continue;
        const Hop& parent = plan->begin_hops(route)[hop.parent];
        RC_ASSERT(window_order(*plan, id, window, parent) < order);
        if (parent.to_staging) RC_ASSERT(parent.delay == hop.delay);  // it leaves staging before others come
      }
    }
  }
  std::sort(orders.begin(), orders.end());
  RC_ASSERT((std::adjacent_find(orders.begin(), orders.end(), [](const auto& a, const auto& b) { return !(a < b); }) ==
             orders.end()));
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
