// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/estimate.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/hand_machine.h"

// Receivers that open few groups at once: the estimate takes the best blocks of them.

namespace reshard {
namespace {

using testing::hand_machine;
using testing::kMega;

/// Bytes of each group in bytes [begin, end) of a bundle's stream.
std::vector<std::int64_t> group_bytes(const Plan& plan, const Range& range) {
  std::vector<std::int64_t> out(plan.groups.size());
  const Strands strands = plan.strands(at(plan.bundles, range.bundle));
  for (std::size_t s = 0; s < strands.size(); ++s) {
    const Strand strand = strands[s];
    const std::int64_t bytes = std::min(range.end, strand.end_bytes) - std::max(range.begin, strand.begin_bytes);
    if (bytes > 0) at(out, at(plan.tensors, strand.tensor).group) += bytes;
  }
  return out;
}

/// [place of the order][resource]
using Loads = std::vector<std::vector<std::int64_t>>;

void add(const Plan& plan, const Range& range, std::int32_t first_group, RankId src, RankId dst, Loads* loads) {
  std::vector<std::int32_t> uses;
  plan.options.machine->append_uses(src, dst, &uses);
  const std::vector<std::int64_t> bytes = group_bytes(plan, range);
  for (std::int32_t group = 0; group < std::ssize(plan.groups); ++group) {
    for (const std::int32_t resource : uses) {
      at(at(*loads, plan.position_of(group, first_group)), resource) += at(bytes, group);
    }
  }
}

Loads loads_by_place(const Plan& plan) {
  Loads loads(plan.groups.size(),
              std::vector<std::int64_t>(static_cast<std::size_t>(plan.options.machine->num_resources())));
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = plan.begin_hops(route)[h];
      for (const Range& range : plan.ranges_of(route)) {
        add(plan, range, route.first_group, RankId(hop.src), RankId(hop.dst), &loads);
      }
    }
  }
  for (std::int32_t b = 0; b < std::ssize(plan.bundles); ++b) {
    const Bundle& bundle = at(plan.bundles, b);
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (!plan.sets.contains(bundle.sources, rank)) continue;
      add(plan, {b, 0, bundle.size_bytes}, at(plan.first_groups, rank), RankId(rank), RankId(rank), &loads);
    }
  }
  return loads;
}

/// The least of all ways to cut the places into blocks of at most this many: bit i of `cuts` is a cut behind place i.
double least_of_all_blocks(const Machine& machine, const Loads& loads, std::int64_t most) {
  double least = std::numeric_limits<double>::infinity();
  for (std::uint32_t cuts = 0; cuts < 1U << (loads.size() - 1); ++cuts) {
    double sum = 0;
    std::int64_t width = 0;
    std::vector<std::int64_t> block(static_cast<std::size_t>(machine.num_resources()));
    for (std::size_t place = 0; place < loads.size(); ++place) {
      for (std::size_t r = 0; r < block.size(); ++r) block[r] += loads[place][r];
      if (++width > most) sum = std::numeric_limits<double>::infinity();
      if (place + 1 < loads.size() && (cuts >> place & 1U) == 0) continue;
      sum += busiest(machine, block).seconds;
      std::fill(block.begin(), block.end(), 0);
      width = 0;
    }
    least = std::min(least, sum);
  }
  return least;
}

RC_GTEST_PROP(EstimateTest, TakesTheBestBlocksOfGroupsAndLessTheMoreMayBeOpen, ()) {
  std::optional<Plan> plan = testing::random_plan(testing::random_numbers());
  if (!plan.has_value() || plan->groups.empty()) return;
  const Loads loads = loads_by_place(*plan);
  double before = std::numeric_limits<double>::infinity();
  for (std::int64_t open = 1; open <= std::ssize(plan->groups) + 1; ++open) {
    plan->options.open_groups = open;
    const Result<Estimate> found = estimate(*plan);
    RC_LOG() << found.status().message();
    RC_ASSERT(found.ok());
    const double expected = least_of_all_blocks(*plan->options.machine, loads, open) + found->fill_seconds;
    RC_ASSERT(std::abs(found->seconds - expected) <= 1e-9 * expected);
    RC_ASSERT(found->seconds <= before * (1 + 1e-12));
    before = found->seconds;
  }
  RC_CLASSIFY(plan->groups.size() > 2, "three groups and more");
}

TEST(EstimateTest, ABlockMayEndEarlyWhereAStageDoes) {
  // 1 MB each at 1 MB/s: group 0 and 1 from rank 0, group 2 from rank 1. Group 1 and 2 together are as quick as one.
  PlanOptions options = testing::options_for(hand_machine({{0}, {1}, {2, 0, 8 * kMega}}));
  options.open_groups = 2;
  auto src = std::make_shared<ModelLayout>(3);
  auto dst = std::make_shared<ModelLayout>(3);
  for (std::int32_t group = 0; group < 3; ++group) {
    const Tensor tensor{"t" + std::to_string(group), DType::kU8, {kMega}, group};
    testing::add_sharded(src.get(), tensor, group == 2 ? 1 : 0, 1, 1);
    testing::add_sharded(dst.get(), tensor, 2, 1, 1);
  }
  const Result<Plan> plan = create_plan(src, dst, options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const Result<Estimate> found = estimate(*plan);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_DOUBLE_EQ(found->seconds - found->fill_seconds, 1.0 + 1.0);
}

}  // namespace
}  // namespace reshard
