// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <random>
#include <utility>
#include <vector>

#include "src/exec/stream_program.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/exec/stages_of.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {

/// Stages and programs of all ranks of a random plan: any trees, some memory mapped, any cut of rounds, any groups that
/// are converted once they landed.
class RandomStages {
 public:
  struct Rank {
    StageSchedule stages;
    StreamProgram program;
  };

  explicit RandomStages(Choices* choices) {
    // First what matters most: a scenario takes as many numbers as it likes, and at their end all are 0.
    const auto num_ranks = static_cast<std::int32_t>(1 + choices->pick(7));
    const auto percent = static_cast<std::uint32_t>(std::array{0, 100, 40}[static_cast<std::size_t>(choices->pick(3))]);
    const std::int32_t most_operations = std::array{2, 6, 0}[static_cast<std::size_t>(choices->pick(3))];
    const bool relays = choices->pick(4) > 0;
    const std::int64_t staging_bytes = std::int64_t{64} << choices->pick(9);
    std::mt19937 random(static_cast<std::uint32_t>(choices->pick(1000)));
    const Scenario scenario = make_scenario(choices, num_ranks);
    Plan plan = *create_plan(scenario.src, scenario.dst, {staging_bytes});
    if (relays) relay_at_random(choices, &plan);
    std::vector<Schedule> schedules = schedules_of(plan, percent);
    for (Schedule& schedule : schedules) {
      for (std::int32_t position = 0; position < std::ssize(plan.groups); ++position) {
        if (random() % 3 == 0) schedule.finishes.push_back(position);
      }
    }
    for (StageSchedule& stages : stages_of(plan, schedules, {most_operations, plan.options.staging_bytes})) {
      StreamProgram program = program_of(stages, random() % 2 == 0);
      ranks_.push_back({std::move(stages), std::move(program)});
    }
  }
  const std::vector<Rank>& ranks() const { return ranks_; }

 private:
  std::vector<Rank> ranks_;
};

}  // namespace reshard::testing
