// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "src/plan/estimate.h"
#include "src/plan/report/simulate_plan.h"
#include "tests/unit/plan/element_oracle.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::random_numbers;
using testing::random_plan;

/// What random machines leave out: PCIe, memory and latencies, where one end may have none.
std::shared_ptr<const Machine> with_the_rest(const Machine& given, const std::vector<std::uint32_t>& numbers) {
  testing::Choices choices(numbers);
  auto machine = std::make_shared<Machine>(given);
  const bool has_pcie = choices.pick(2) == 1;
  const bool has_memory = choices.pick(2) == 1;
  const bool has_latency = choices.pick(3) > 0;
  const std::int64_t scale_ns = choices.pick(3) == 1 ? 1'000'000 : 1000;
  for (Machine::Gpu& gpu : machine->gpus) {
    if (has_pcie) gpu.pcie.nominal_bytes_per_s = std::int64_t{3'000'000} >> choices.pick(3);
    if (has_memory) gpu.memory.nominal_bytes_per_s = std::int64_t{16'000'000} >> choices.pick(5);
    if (!has_latency) gpu.link.latency_ns = 0;
  }
  for (Machine::Port& port : machine->ports) {
    port.out.latency_ns = has_latency ? static_cast<std::int32_t>(scale_ns * choices.pick(6)) : 0;
    port.in.latency_ns = has_latency ? static_cast<std::int32_t>(scale_ns * choices.pick(6)) : 0;
  }
  return machine;
}

/// A random plan over a random machine with all its numbers; the receivers' limit is `open_groups`, or if that is
/// negative a random one.
std::optional<Plan> random_full_plan(std::int64_t open_groups) {
  const std::vector<std::uint32_t> numbers = random_numbers();
  const std::optional<Plan> first = random_plan(numbers);
  if (!first.has_value()) return std::nullopt;
  PlanOptions options = first->options;
  options.machine = with_the_rest(*options.machine, random_numbers());
  if (open_groups >= 0) {
    options.open_groups = open_groups;
    options.order = GroupOrder::kFixed;
  }
  Result<Plan> plan = create_plan(first->src, first->dst, options);
  RC_LOG() << plan.status().message();
  RC_ASSERT(plan.ok());
  return std::move(plan).take();
}

double seconds_of(const std::vector<Bound>& bounds, const std::string& name) {
  for (const Bound& bound : bounds) {
    if (bound.name == name) return bound.seconds;
  }
  return -1;
}

RC_GTEST_PROP(BoundTest, AreWhatCountingElementsSays, ()) {
  std::optional<Plan> plan = random_full_plan(-1);
  if (!plan.has_value()) return;
  auto machine = std::make_shared<Machine>(*plan->options.machine);
  const auto memory = std::int64_t{5'000'000} * *rc::gen::inRange(0, 3);
  for (Machine::Gpu& gpu : machine->gpus) gpu.memory.nominal_bytes_per_s = memory;
  plan->options.machine = machine;
  const std::vector<Bound> found = find_bounds(*plan, loads_of(*plan));
  const auto expected = testing::brute_bounds(*machine, testing::needs_of(*plan->src, *plan->dst));
  for (const auto& [name, seconds] : expected) {
    const double is = seconds_of(found, name);
    RC_LOG() << name << ": " << is << " instead of " << seconds << "\n";
    if (name == "LB4 source set") {
      // A certificate of rounded numbers: it may miss a byte, and 1 in 100.
      RC_ASSERT(is <= seconds * (1 + 1e-9));
      RC_ASSERT(is >= 0.99 * (seconds - 2e-6));
    } else {
      RC_ASSERT(std::abs(is - seconds) <= 1e-9 * seconds);
    }
    RC_ASSERT(is >= 0);
  }
}

RC_GTEST_PROP(BoundTest, AreNotAboveTheEstimate, (bool has_limit)) {
  const std::int64_t open_groups = has_limit ? *rc::gen::inRange(1, 4) : 0;
  const std::optional<Plan> plan = random_full_plan(open_groups);
  if (!plan.has_value()) return;
  const Result<Estimate> found = estimate(*plan);
  RC_LOG() << found.status().message();
  RC_ASSERT(found.ok());
  RC_CLASSIFY(found->bound.seconds > 0, found->bound.name);
  for (const Bound& bound : found->bounds) {
    RC_LOG() << bound.name << ": " << bound.seconds << " of " << found->seconds << "\n";
    RC_ASSERT(bound.seconds <= found->seconds * (1 + 1e-9));
  }
}

RC_GTEST_PROP(BoundTest, OfPricesHoldsForAnyPrices, ()) {
  const std::optional<Plan> plan = random_full_plan(0);
  if (!plan.has_value()) return;
  const Result<Estimate> found = estimate(*plan);
  RC_ASSERT(found.ok());
  const std::vector<std::uint32_t> numbers = random_numbers();
  testing::Choices choices(numbers);
  std::vector<std::int64_t> loads;
  for (std::int32_t r = 0; r < plan->options.machine->num_resources(); ++r) {
    // Tight or not, for the bound knows no other prices.
    loads.push_back(choices.pick(2) * plan->options.machine->link_of(r).bytes_per_s());
  }
  const double seconds = seconds_of(find_bounds(*plan, loads), "LB9 prices");
  RC_CLASSIFY(seconds > 0.5 * found->seconds, "tight");
  RC_ASSERT(seconds <= found->seconds * (1 + 1e-9));
}

RC_GTEST_PROP(BoundTest, AreNotAboveASimulationNorIsThatFarFromTheEstimate, (bool has_limit)) {
  const std::int64_t open_groups = has_limit ? *rc::gen::inRange(1, 4) : 0;
  const std::optional<Plan> plan = random_full_plan(open_groups);
  if (!plan.has_value()) return;
  const Result<Estimate> found = estimate(*plan);
  const Result<Simulation> simulation = simulate_plan(*plan, 0);
  RC_LOG() << found.status().message() << simulation.status().message();
  RC_ASSERT((found.ok() && simulation.ok()));
  RC_LOG() << found->bound.name << " " << found->bound.seconds << " estimate " << found->seconds << " of it filling "
           << found->fill_seconds << " simulation " << simulation->seconds << "\n";
  RC_ASSERT(simulation->seconds >= found->bound.seconds * (1 - 1e-9));
  if (open_groups > 0) return;
  RC_ASSERT(simulation->seconds <= 1.05 * found->seconds + found->fill_seconds);
  RC_ASSERT(simulation->seconds >= 0.95 * (found->seconds - found->fill_seconds));
}

}  // namespace
}  // namespace reshard
