// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Jobs whose tables of experts change, and ranks whose bindings follow them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/plan/replan.h"
#include "tests/unit/exec/run.h"
#include "tests/unit/exec/servers.h"

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
