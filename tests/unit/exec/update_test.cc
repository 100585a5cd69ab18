// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "src/plan/replan.h"
#include "src/plan/save.h"
#include "tests/unit/exec/run.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;
using ::testing::HasSubstr;
using testing::run_world;
using testing::RunOptions;

/// By layer and server rank: the expert in each slot.
using Tables = std::vector<std::vector<std::vector<std::int64_t>>>;

struct Servers {
  std::int64_t num_layers = 1;
  std::int64_t num_experts = 1;
  std::int32_t num_trainers = 1;
  std::int32_t num_servers = 1;
  std::int64_t num_slots = 1;  ///< of each server rank
};

/// Every expert is somewhere; the slots beyond that hold any.
std::vector<std::vector<std::int64_t>> random_table(const Servers& servers, Choices* choices) {
  const std::int64_t num_slots = servers.num_slots * servers.num_servers;
  std::vector<std::int64_t> flat;
  for (std::int64_t s = 0; s < num_slots; ++s) {
    flat.push_back(s < servers.num_experts ? s : choices->pick(servers.num_experts));
  }
  for (std::size_t s = flat.size(); s > 1; --s) {
    std::swap(flat[s - 1], flat[static_cast<std::size_t>(choices->pick(static_cast<std::int64_t>(s)))]);
  }
  std::vector<std::vector<std::int64_t>> table;
  for (std::int64_t r = 0; r < servers.num_servers; ++r) {
    table.emplace_back(flat.begin() + r * servers.num_slots, flat.begin() + (r + 1) * servers.num_slots);
  }
  return table;
}

DimMapPtr map_of(const std::vector<std::vector<std::int64_t>>& table) {
  auto map = std::make_shared<DimMap>();
  for (const std::vector<std::int64_t>& slots : table) {
    DimPart part;
    for (const std::int64_t expert : slots) {
      part.segments.push_back({expert, expert + 1, part.extent});
      ++part.extent;
    }
    map->parts.push_back(part);
  }
  return map;
}

/// Experts of each layer by its table, and an attention that no table is for; built anew for every table, as servers
/// do.
std::shared_ptr<const ModelLayout> servers_layout(const Servers& servers, const Tables& tables) {
  auto layout = std::make_shared<ModelLayout>(servers.num_trainers + servers.num_servers);
  for (std::int64_t l = 0; l < servers.num_layers; ++l) {
    testing::add_sharded(layout.get(), {"attention" + std::to_string(l), DType::kBF16, {12, 5}, l},
                         servers.num_trainers, 1, servers.num_servers);
    const Tensor experts{"experts" + std::to_string(l), DType::kBF16, {servers.num_experts, 3, 4}, l};
    const std::int64_t id = *layout->add_tensor(experts);
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(servers.num_servers));
    std::iota(ranks.begin(), ranks.end(), servers.num_trainers);
    Placement placement;
    placement.mesh = *Mesh::create({{"ep", servers.num_servers}}, ranks);
    placement.dims.resize(3);
    placement.dims[0] = {map_of(tables[static_cast<std::size_t>(l)]), {0}};
    placement.buffer = layout->add_buffer(experts.name, experts.dtype);
    EXPECT_TRUE(layout->place(id, placement).ok());
  }
  return layout;
}

std::shared_ptr<const ModelLayout> trainers_layout(const Servers& servers) {
  auto layout = std::make_shared<ModelLayout>(servers.num_trainers + servers.num_servers);
  for (std::int64_t l = 0; l < servers.num_layers; ++l) {
    const auto name = [&](const char* what) { return what + std::to_string(l); };
    testing::add_sharded(layout.get(), {name("attention"), DType::kBF16, {12, 5}, l}, 0, 1, servers.num_trainers);
    testing::add_sharded(layout.get(), {name("experts"), DType::kBF16, {servers.num_experts, 3, 4}, l}, 0, 1,
                         servers.num_trainers, static_cast<int>(l % 3));
  }
  return layout;
}

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
