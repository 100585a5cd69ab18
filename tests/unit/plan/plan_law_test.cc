// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "src/plan/plan.h"
#include "src/plan/report/report.h"
#include "src/plan/windows.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::flat_index;
using testing::make_scenario;
using testing::Scenario;

using Elements = std::multiset<std::int64_t>;

/// The elements of a tensor that a rank's blocks name, each once, straight from the blocks.
std::set<std::int64_t> held(const ModelLayout& layout, std::int32_t rank, std::int64_t tensor) {
  std::set<std::int64_t> elements;
  for (const Block& block : layout.blocks(rank, tensor)) {
    if (block.kind != BlockKind::kData) continue;
    testing::for_each_element(block, [&](const Dims& index, std::int64_t) {
      elements.insert(flat_index(at(layout.tensors(), tensor).shape, index));
    });
  }
  return elements;
}

/// The elements of a fragment, one by one.
Elements elements_of(const Plan& plan, const Fragment& fragment) {
  const std::int64_t tensor = at(plan.tensors, fragment.tensor).dst;
  Elements out;
  Block whole;
  whole.box = fragment.atom->box;
  std::int64_t position = 0;
  testing::for_each_element(whole, [&](const Dims& index, std::int64_t) {
    if (position >= fragment.begin && position < fragment.end) {
      out.insert(flat_index(at(plan.dst->tensors(), tensor).shape, index));
    }
    ++position;
  });
  return out;
}

Plan plan_of(const Scenario& scenario, std::int64_t staging_bytes) {
  Result<Plan> plan = create_plan(scenario.src, scenario.dst, PlanOptions{staging_bytes});
  RC_ASSERT(plan.ok());
  return std::move(plan).take();
}

/// What reaches each (rank, tensor): from itself, and from others, of whom each must hold what it sends.
std::map<std::pair<std::int32_t, std::int64_t>, Elements> arrivals(const Plan& plan) {
  std::map<std::pair<std::int32_t, std::int64_t>, Elements> out;
  // Bytes set out from a rank that holds them; what comes to stay is counted.
  const auto deliver = [&](std::int32_t src, std::int32_t dst, bool stays, const Fragment& fragment) {
    const PlanTensor& tensor = at(plan.tensors, fragment.tensor);
    const auto at_source = held(*plan.src, src, tensor.src);
    for (const std::int64_t element : elements_of(plan, fragment)) {
      RC_ASSERT(at_source.contains(element));
      if (stays) out[{dst, tensor.dst}].insert(element);
    }
  };
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (!plan.sets.contains(bundle.sources, rank)) continue;
      for (const Fragment& f : fragments_of(plan, static_cast<std::int32_t>(b), 0, bundle.size_bytes)) {
        deliver(rank, rank, true, f);
      }
    }
  }
  for (const Route& route : plan.routes) {
    std::vector<std::int32_t> origins;  // by hop: the source that its bytes come from
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      RC_ASSERT(hop.src != hop.dst);
      RC_ASSERT(hop.parent < h);
      RC_ASSERT((hop.parent < 0 || plan.begin_hops(route)[hop.parent].dst == hop.src));
      origins.push_back(hop.parent < 0 ? hop.src : at(origins, hop.parent));
      for (const Window& window : windows_of(plan, route)) {
        for (const Fragment& fragment : window.fragments) deliver(origins.back(), hop.dst, !hop.to_staging, fragment);
      }
    }
  }
  return out;
}

RC_GTEST_PROP(PlanTest, EveryDestinationElementArrivesExactlyOnceFromARankThatHoldsIt,
              (const std::vector<std::uint32_t>& numbers)) {
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(11));
  const std::int64_t staging = std::int64_t{8} << choices.pick(20);
  const Plan plan = plan_of(make_scenario(&choices, num_ranks), staging);
  const auto arrived = arrivals(plan);
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    for (std::size_t t = 0; t < plan.dst->tensors().size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      const auto wanted = held(*plan.dst, rank, tensor);
      const auto found = arrived.find({rank, tensor});
      RC_ASSERT((found == arrived.end() ? Elements() : found->second) == Elements(wanted.begin(), wanted.end()));
    }
  }
}

RC_GTEST_PROP(PlanTest, WindowsFitTheirSlotsAndComeInPlanOrder, (const std::vector<std::uint32_t>& numbers)) {
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(8));
  const std::int64_t staging = std::int64_t{8} << choices.pick(12);
  const Plan plan = plan_of(make_scenario(&choices, num_ranks), staging);
  RC_ASSERT(2 * plan.num_slots * plan.window_bytes <= staging);
  std::set<WindowOrder> orders;
  std::size_t num_windows = 0;
  for (std::size_t r = 0; r < plan.routes.size(); ++r) {
    const Route& route = plan.routes[r];
    std::int64_t last_tensor = 0;
    for (const Window& window : windows_of(plan, route)) {
      RC_ASSERT((window.size_bytes >= 1 && window.size_bytes <= plan.window_bytes));
      std::int64_t bytes = 0;
      for (const Fragment& fragment : window.fragments) {
        RC_ASSERT(fragment.tensor >= last_tensor);
        last_tensor = fragment.tensor;
        bytes += (fragment.end - fragment.begin) * at(plan.tensors, fragment.tensor).wire_bytes;
      }
      RC_ASSERT(bytes == window.size_bytes);
      std::vector<WindowOrder> of_hop;
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop& hop = plan.begin_hops(route)[h];
        of_hop.push_back(window_order(plan, static_cast<std::int64_t>(r), window, hop));
        RC_ASSERT((hop.parent < 0 || at(of_hop, hop.parent) < of_hop.back()));  // it comes before it leaves
        RC_ASSERT((orders.insert(of_hop.back()).second || h > 0));
        ++num_windows;
      }
    }
  }
  RC_ASSERT(orders.size() == num_windows);  // a total order for plans without relays: no two windows tie
}

RC_GTEST_PROP(PlanTest, CountsEqualTheWindows, (const std::vector<std::uint32_t>& numbers)) {
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(11));
  const Plan plan = plan_of(make_scenario(&choices, num_ranks), 1 << 20);
  std::map<std::int32_t, std::int64_t> sent;
  std::map<std::int32_t, std::int64_t> received;
  std::int64_t messages = 0;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      for (const Window& window : windows_of(plan, route)) {
        sent[hop.src] += window.size_bytes;
        received[hop.dst] += window.size_bytes;
        ++messages;
      }
    }
  }
  const PlanStats stats = count_plan(plan);
  const auto most = [](const auto& bytes) {
    std::int64_t max = 0;
    for (const auto& [rank, count] : bytes) max = std::max(max, count);
    return max;
  };
  RC_ASSERT(stats.num_messages == messages);
  RC_ASSERT(stats.senders.max_bytes == most(sent));
  RC_ASSERT(stats.receivers.max_bytes == most(received));
  RC_ASSERT(stats.senders.total_bytes == stats.receivers.total_bytes);
  std::int64_t histogram = 0;
  for (const std::int64_t count : stats.messages_up_to) histogram += count;
  RC_ASSERT(histogram == messages);
}

RC_GTEST_PROP(PlanTest, EqualInputsGiveEqualPlans, (const std::vector<std::uint32_t>& numbers)) {
  const auto plan_once = [&] {
    Choices choices(numbers);
    const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(11));
    return plan_of(make_scenario(&choices, num_ranks), 1 << 20);
  };
  RC_ASSERT(plan_once().hash == plan_once().hash);
}

}  // namespace
}  // namespace reshard
