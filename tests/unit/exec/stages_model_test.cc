// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Stages of a whole job: 64 ranks that move DeepSeek-V3, proved and played with groups that block, under both rules by
// which NCCL cuts a group into kernels. By default a few layers and few seeds; for the whole model and the figures of
// the project, RESHARD_STAGES_LAYERS=0 RESHARD_STAGES_SEEDS=100.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "src/exec/check_stages.h"
#include "src/exec/stage_report.h"
#include "src/model/model.h"
#include "tests/unit/exec/stage_run.h"
#include "tests/unit/exec/stages_of.h"
#include "topology/cluster.h"

namespace reshard::testing {
namespace {

std::int64_t number_of(const char* variable, std::int64_t fallback) {
  const char* text = std::getenv(variable);
  return text == nullptr ? fallback : std::atoll(text);
}

struct Job {
  std::string name;
  std::string from;
  std::string to;
  bool is_colocated = false;
  std::string cluster;  // empty: unknown
  std::int64_t open_groups = 0;
};
void PrintTo(const Job& job, std::ostream* out) {
  *out << job.name;
}

Plan plan_of(const Job& job) {
  std::stringstream config;
  config << std::ifstream(std::string(RESHARD_MODELS) + "/DeepSeek-V3.json").rdbuf();
  const std::int64_t num_layers = number_of("RESHARD_STAGES_LAYERS", 4);
  const std::int32_t first_dst = job.is_colocated ? 0 : 32;
  Result<ModelLayout> src = make_model_layout(config.str(), job.from, {.num_layers = num_layers, .num_ranks = 64});
  Result<ModelLayout> dst =
      make_model_layout(config.str(), job.to, {.num_layers = num_layers, .num_ranks = 64, .first_rank = first_dst});
  EXPECT_TRUE(src.ok()) << src.status().message();
  EXPECT_TRUE(dst.ok()) << dst.status().message();
  PlanOptions options;
  options.open_groups = job.open_groups;
  options.order = job.open_groups > 0 ? GroupOrder::kRotated : GroupOrder::kFixed;
  if (!job.cluster.empty()) {
    const std::vector<std::int32_t> segments = job.is_colocated ? std::vector{64} : std::vector{32, 32};
    options.machine = std::make_shared<const Machine>(*make_machine(*parse_cluster(job.cluster), segments));
  }
  Result<Plan> plan = create_plan(std::make_shared<const ModelLayout>(std::move(*src)),
                                  std::make_shared<const ModelLayout>(std::move(*dst)), options);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(*plan);
}

std::int64_t num_relayed(const std::vector<Schedule>& schedules) {
  std::int64_t count = 0;
  for (const Schedule& schedule : schedules) count += static_cast<std::int64_t>(schedule.out[kRelayLane].steps.size());
  return count;
}

void print(const std::vector<StageSchedule>& stages, const StageLimits& limits) {
  StageCounts busiest;
  std::int32_t level = 0;
  for (const StageSchedule& of_rank : stages) {
    const StageCounts counts = count_stages(of_rank);
    if (counts.num_operations > busiest.num_operations) busiest = counts;
    EXPECT_LE(counts.most_launches, 2);
    EXPECT_LE(counts.staging_bytes, limits.staging_bytes);
    level = std::max(level, of_rank.levels.highest());
  }
  fmt::print(
      "  {} operations to a group: busiest rank {}: {} operations of {} windows in {} groups of at most {}, "
      "{} stages of {} rounds, {} launches, {} of {} bytes of staging; highest level {}\n",
      limits.most_operations == 0 ? "any" : std::to_string(limits.most_operations), busiest.rank,
      busiest.num_operations, busiest.num_windows, busiest.num_groups, busiest.most_operations, busiest.num_stages,
      busiest.num_rounds, busiest.num_launches, busiest.staging_bytes, limits.staging_bytes, level);
}

class StagesModelTest : public ::testing::TestWithParam<Job> {};

TEST_P(StagesModelTest, RunsEndHoweverGroupsAreCut) {
  const Plan plan = plan_of(GetParam());
  std::vector<Schedule> schedules;
  for (std::int32_t rank = 0; rank < plan.num_ranks; ++rank) schedules.push_back(build_schedule(plan, rank, {}));
  if (!GetParam().cluster.empty()) {
    EXPECT_GT(num_relayed(schedules), 0);
  }
  const auto num_seeds = static_cast<std::uint32_t>(number_of("RESHARD_STAGES_SEEDS", 1));
  for (const std::int32_t most : {6, 0}) {
    const StageLimits limits{most, plan.options.staging_bytes};
    const std::vector<StageSchedule> stages = stages_of(plan, schedules, limits);
    ASSERT_EQ(check_stages(stages, limits).message(), "");
    print(stages, limits);
    const StageMeetings meetings(stages);
    for (std::uint32_t seed = 1; seed <= num_seeds; ++seed) {
      ASSERT_EQ(play(meetings, {false, 6}, seed), "") << "seed " << seed;
      if (most > 0) {
        ASSERT_EQ(play(meetings, {true, most}, seed), "") << "seed " << seed;
      }
    }
  }
}

// Disjoint; both sides on the same ranks; over a cluster, where windows are relayed, two groups open at once.
INSTANTIATE_TEST_SUITE_P(Jobs, StagesModelTest,
                         ::testing::Values(Job{"disjoint", "megatron:pp=4,dp=8,ep=8", "vllm:tp=32", false, "", 0},
                                           Job{"colocated", "megatron:pp=4,dp=16,ep=16", "vllm:tp=64", true, "", 0},
                                           Job{"relays", "megatron:pp=4,dp=8,ep=8", "vllm:tp=8,replicas=4", false,
                                               "hgx-h100", 2}),
                         [](const auto& given) { return given.param.name; });

}  // namespace
}  // namespace reshard::testing
