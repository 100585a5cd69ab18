// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Jobs whose tables of experts change, and ranks whose bindings follow them.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "src/plan/replan.h"
#include "tests/unit/exec/run.h"
#include "tests/unit/exec/servers.h"
#include "tests/unit/plan/fleet.h"

namespace reshard::testing {

/// Plans of one job, each after the tables of the one before have changed.
struct Story {
  Servers servers;
  std::shared_ptr<const ModelLayout> src;
  std::vector<std::shared_ptr<const ModelLayout>> dst;
  std::vector<std::shared_ptr<const Plan>> plans;
  std::vector<bool> is_new;  ///< by plan: whether any table is

  std::int32_t num_ranks() const { return servers.num_trainers + servers.num_servers; }
  void append(const Tables& tables) {
    dst.push_back(servers_layout(servers, tables));
    Changes changes;
    plans.push_back(std::make_shared<const Plan>(*update_plan(*plans.back(), dst.back(), &changes)));
    is_new.push_back(changes.tensors_changed > 0);
  }
};

/// Three new tables, some of which are the older ones. None: there is no such plan.
inline std::optional<Story> random_story(Choices* choices, std::optional<std::int64_t> open_groups = {}) {
  Story story;
  Servers& servers = story.servers;
  servers.num_layers = 1 + choices->pick(4);
  servers.num_experts = 1 + choices->pick(9);
  servers.num_trainers = static_cast<std::int32_t>(1 + choices->pick(4));
  servers.num_servers = static_cast<std::int32_t>(1 + choices->pick(4));
  servers.num_slots = (servers.num_experts + servers.num_servers - 1) / servers.num_servers + choices->pick(2);
  PlanOptions options;
  if (choices->pick(2) == 0) options = random_options(choices, story.num_ranks());
  if (open_groups.has_value()) options.open_groups = *open_groups;
  Tables tables;
  for (std::int64_t l = 0; l < servers.num_layers; ++l) tables.push_back(random_table(servers, choices));
  story.src = trainers_layout(servers);
  story.dst.push_back(servers_layout(servers, tables));
  const Result<Plan> first = create_plan(story.src, story.dst.front(), options);
  if (!first.ok()) return std::nullopt;  // no such network, or no such staging
  story.plans.push_back(std::make_shared<const Plan>(*first));
  story.is_new.push_back(true);
  for (int step = 0; step < 3; ++step) {
    for (auto& table : tables) {
      if (choices->pick(3) == 0) table = random_table(servers, choices);
    }
    story.append(tables);
  }
  return story;
}

/// Some of a rank's buffers, moved; the same ones whoever asks.
inline std::vector<BoundBuffer> move_some(RankBuffers* buffers, std::mt19937* random) {
  std::vector<BoundBuffer> moved;
  for (const BoundBuffer& buffer : std::vector<BoundBuffer>(buffers->bound())) {
    const bool is_moved = (*random)() % 4 == 0;
    const bool is_mappable = (*random)() % 4 != 0;
    if (is_moved) moved.push_back(buffers->move(buffer.id, is_mappable));
  }
  return moved;
}

/// A rank that takes part in a story: its memory, and the binding to the plan that it has come to.
class Follower {
 public:
  Follower(const Story& story, Transport* given, bool is_src_mappable, bool is_dst_mappable)
      : story_(story),
        transport(given),
        src(*story.src, given->rank(), given, is_src_mappable),
        dst(*story.dst.front(), given->rank(), given, is_dst_mappable) {}

  Status bind() {
    BindOptions options{story_.plans.front(), transport, src.bound(), dst.bound(), &numbers_, kTimeoutUs};
    choose_memory(&options);
    if (options.make_copier) {
      options.make_copier = [this, make = options.make_copier]() -> Result<std::unique_ptr<Copier>> {
        if (fails_to_copy) return Status{RESHARD_ERR_OUT_OF_MEMORY, "no memory for that, for once"};
        return make();
      };
    }
    RESHARD_TRY(binding, Binding::create(options));
    return {};
  }

  /// To the plan with this number, with buffers that lie elsewhere.
  Status update(std::size_t plan, UpdateOptions options = {}) {
    options.plan = story_.plans[plan];
    options.timeout_us = kTimeoutUs;
    Result<std::unique_ptr<Binding>> updated = Binding::update(*binding, std::move(options));
    RESHARD_TRY(updated.status());
    binding = std::move(updated).take();
    dst.adopt(*story_.dst[plan]);
    return {};
  }

  std::string run(std::int64_t salt) {
    src.fill(salt);
    dst.poison();
    Status status = binding->driver().start();
    if (status.ok()) status = binding->driver().finish(Deadline(kTimeoutUs));
    return status.ok() ? dst.check(salt) : status.message() + "\n";
  }
  bool meet() const { return transport->allgather({}, Deadline(kTimeoutUs)).ok(); }

 private:
  const Story& story_;
  BindingNumbers numbers_;

 public:
  Transport* const transport;
  RankBuffers src;
  RankBuffers dst;
  bool fails_to_copy = false;
  std::unique_ptr<Binding> binding;  // destroyed first
};

inline Story two_tables() {
  Story story;
  story.servers = {2, 4, 2, 2, 2};
  story.src = trainers_layout(story.servers);
  story.dst = {servers_layout(story.servers, Tables(2, {{0, 1}, {2, 3}}))};
  story.plans = {std::make_shared<const Plan>(*create_plan(story.src, story.dst.front(), {}))};
  story.is_new = {true};
  story.append({{{0, 1}, {2, 3}}, {{0, 3}, {2, 1}}});
  return story;
}

}  // namespace reshard::testing
