// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <optional>
#include <string>

#include "src/plan/plan.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/random_machine.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {

inline PlanOptions random_options(Choices* choices, std::int32_t num_ranks) {
  PlanOptions options;
  options.staging_bytes = std::int64_t{16} << choices->pick(20);
  options.machine = make_random_machine(choices, num_ranks);
  options.order = static_cast<GroupOrder>(choices->pick(3));
  options.open_groups = choices->pick(3);
  return options;
}

/// A trainer in stages and many replicas of a server: where copies must be made on the way.
inline Scenario make_fleet(Choices* choices, std::int32_t num_ranks) {
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
    add_sharded(src.get(), tensor, static_cast<std::int32_t>(stage * per_stage), per_stage / src_shards, src_shards);
    const bool is_replicated = choices->pick(3) == 1;
    add_sharded(dst.get(), tensor, first, is_replicated ? num_dst : num_dst / dst_shards,
                is_replicated ? 1 : dst_shards, static_cast<int>(choices->pick(2)));
  }
  return {src, dst};
}

/// Numbers enough for every choice; a case is shrunk by zeros.
inline std::vector<std::uint32_t> random_numbers() {
  return *rc::gen::container<std::vector<std::uint32_t>>(200, rc::gen::inRange<std::uint32_t>(0, 1U << 20));
}

/// A plan over a random machine; nothing when its network does not join those who must meet.
inline std::optional<Plan> random_plan(const std::vector<std::uint32_t>& numbers) {
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

}  // namespace reshard::testing
