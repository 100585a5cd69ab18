// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "src/plan/replan.h"
#include "src/plan/save.h"
#include "tests/unit/exec/run.h"
#include "tests/unit/exec/servers.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;
using ::testing::HasSubstr;
using testing::random_table;
using testing::run_world;
using testing::RunOptions;
using testing::Servers;
using testing::servers_layout;
using testing::Tables;
using testing::trainers_layout;

/// A plan that is updated again and again delivers every element of each table, as one made anew does; a table of
/// which nothing is new changes nothing; and what is updated can be kept in a file.
RC_GTEST_PROP(UpdateTest, NewTablesDeliverWhatPlansMadeAnewDeliver, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  Servers servers;
  servers.num_layers = 1 + choices.pick(4);
  servers.num_experts = 1 + choices.pick(9);
  servers.num_trainers = static_cast<std::int32_t>(1 + choices.pick(4));
  servers.num_servers = static_cast<std::int32_t>(1 + choices.pick(4));
  servers.num_slots = (servers.num_experts + servers.num_servers - 1) / servers.num_servers + choices.pick(2);
  PlanOptions options;
  if (choices.pick(2) == 0) {
    options = testing::random_options(&choices, servers.num_trainers + servers.num_servers);
  }
  Tables tables;
  for (std::int64_t l = 0; l < servers.num_layers; ++l) tables.push_back(random_table(servers, &choices));
  RunOptions run;
  run.scenario.src = trainers_layout(servers);
  const Result<Plan> first = create_plan(run.scenario.src, servers_layout(servers, tables), options);
  if (!first.ok()) return;  // no such network, or no such staging
  Plan plan = *first;
  for (int step = 0; step < 3; ++step) {
    std::int64_t num_changed = 0;
    for (auto& table : tables) {
      if (choices.pick(2) == 0) continue;
      const auto fresh = random_table(servers, &choices);
      num_changed += fresh == table ? 0 : 1;
      table = fresh;
    }
    run.scenario.dst = servers_layout(servers, tables);
    Changes changes;
    Result<Plan> updated = update_plan(plan, run.scenario.dst, &changes);
    if (!updated.ok()) RC_FAIL(updated.status().message());
    RC_ASSERT(changes.tensors_changed == num_changed);
    if (num_changed == 0) RC_ASSERT(changes.bytes_changed == 0);
    const Result<Plan> loaded = load_plan(save_plan(*updated), run.scenario.src, run.scenario.dst, options.machine);
    RC_ASSERT(loaded.ok() && loaded->hash == updated->hash);
    plan = *updated;
    run.plan = std::make_shared<const Plan>(plan);
    RC_ASSERT(run_world(run) == "");
  }
}

TEST(UpdateTest, OtherTensorsAreRefusedAndNamed) {
  const Servers servers{2, 4, 2, 2, 2};
  const Tables tables(2, {{0, 1}, {2, 3}});
  const Plan plan = *create_plan(trainers_layout(servers), servers_layout(servers, tables), {});
  Changes changes;
  const Servers fewer{1, 4, 2, 2, 2};
  const Result<Plan> shorter = update_plan(plan, servers_layout(fewer, tables), &changes);
  EXPECT_EQ(shorter.status().code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(shorter.status().message(), HasSubstr("had 4 tensors and has 2"));
  const Servers more{2, 5, 2, 2, 3};
  const Result<Plan> larger = update_plan(plan, servers_layout(more, Tables(2, {{0, 1, 4}, {2, 3, 0}})), &changes);
  EXPECT_EQ(larger.status().code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(larger.status().message(), HasSubstr("\"experts0\""));
}

/// A rank that has not heard of the new table is refused, on all ranks, and the message says what to look at.
TEST(UpdateTest, AStaleTableIsRefusedWhenItIsBound) {
  const Servers servers{2, 4, 2, 2, 2};
  const auto src = trainers_layout(servers);
  const auto old_dst = servers_layout(servers, Tables(2, {{0, 1}, {2, 3}}));
  const auto new_dst = servers_layout(servers, {{{0, 1}, {2, 3}}, {{0, 3}, {2, 1}}});
  const auto old = std::make_shared<const Plan>(*create_plan(src, old_dst, {}));
  Changes changes;
  const auto updated = std::make_shared<const Plan>(*update_plan(*old, new_dst, &changes));
  testing::run_ranks(4, [&](Transport* transport) -> std::string {
    const bool is_stale = transport->rank() == 2;
    testing::RankBuffers from(*src, transport->rank(), transport, false);
    testing::RankBuffers to(is_stale ? *old_dst : *new_dst, transport->rank(), transport, false);
    const auto binding =
        Binding::create({is_stale ? old : updated, transport, from.bound(), to.bound(), nullptr, testing::kTimeoutUs});
    EXPECT_EQ(binding.status().code(), RESHARD_ERR_PLAN_MISMATCH);
    EXPECT_THAT(binding.status().message(), HasSubstr("another destination layout (is its table of experts stale?)"));
    return "";
  });
}

}  // namespace
}  // namespace reshard
