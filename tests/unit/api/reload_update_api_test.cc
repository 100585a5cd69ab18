// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reloads that go on to another plan, and ranks that are not in the same call.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kRows = 2;  // of each of the two tensors on a rank
constexpr std::int64_t kCols = 6;
constexpr std::int64_t kHalf = kRows * kCols;

/// Two tensors [4, 6], of groups 0 and 10. Ranks 0 and 1 train the halves of their rows; ranks 2 and 3 serve them, as
/// the list of ranks says.
std::string halves_spec(const char* servers) {
  std::string tensors;
  for (int t = 0; t < 2; ++t) {
    tensors += fmt::format(
        R"({}{{"name": "t{}", "group": {}, "shape": [4, 6],
             "src": {{"dtype": "F32", "mesh": {{"axes": [["x", 2]], "ranks": [0, 1]}}, "placements": [{{"shard": 0}}]}},
             "dst": {{"dtype": "F32", "mesh": {{"axes": [["x", 2]], "ranks": {}}}, "placements": [{{"shard": 0}}]}}}})",
        t == 0 ? "" : ", ", t, 10 * t, servers);
  }
  return R"({"version": 1, "ranks": 4, "tensors": [)" + tensors + "]}";
}

float value_of(std::int64_t tensor, std::int64_t half, std::int64_t i, int run) {
  return static_cast<float>(1000 * run + 100 * tensor + half * kHalf + i);
}

/// Plans for one table of ranks, and after it has changed.
struct Tables {
  Tables() {
    reshard_plan_options_t options;
    reshard_plan_options_init(&options);
    options.open_groups = 1;
    EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(reshard_plan_update(plan, swapped.dst, &updated), RESHARD_OK) << reshard_last_error();
  }
  ~Tables() {
    for (reshard_plan_t each : {plan, updated}) reshard_plan_destroy(each);
  }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;

  Sides sides{halves_spec("[2, 3]")};
  Sides swapped{halves_spec("[3, 2]")};
  reshard_plan_t plan = nullptr;
  reshard_plan_t updated = nullptr;
};

/// One rank's memory and its reload. A server makes the sum of each tensor, and keeps the second tensor.
struct Site {
  Site(const Tables& tables, reshard_comm_t comm, std::int32_t given_rank) : rank(given_rank), is_server(rank >= 2) {
    for (std::int64_t t = 0; t < 2; ++t) buffers.push_back(buffer_of(t, &values[static_cast<std::size_t>(t * kHalf)]));
    if (is_server) buffers[0].ptr = nullptr;
    reshard_reload_desc_init(&desc);
    desc.comm = comm;
    desc.plan = tables.plan;
    (is_server ? desc.num_dst_buffers : desc.num_src_buffers) = 2;
    (is_server ? desc.dst_buffers : desc.src_buffers) = buffers.data();
    for (std::int64_t t = 0; t < 2 && is_server; ++t) {
      reshard_reload_output_t output;
      reshard_reload_output_init(&output);
      output.group = 10 * t;
      output.ptr = &sums[static_cast<std::size_t>(t)];
      output.size_bytes = sizeof(float);
      outputs.push_back(output);
    }
    desc.num_outputs = static_cast<std::int64_t>(outputs.size());
    desc.outputs = outputs.data();
    EXPECT_EQ(reshard_reload_create(&desc, &reload), RESHARD_OK) << reshard_last_error();
  }
  ~Site() { reshard_reload_destroy(reload); }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  static reshard_buffer_t buffer_of(std::int64_t id, float* data) {
    reshard_buffer_t buffer;
    reshard_buffer_init(&buffer);
    buffer.id = id;
    buffer.ptr = data;
    buffer.size_bytes = kHalf * sizeof(float);
    return buffer;
  }

  /// An update by this rank with nothing but the plan; `spoil` changes it.
  reshard_status_t update(reshard_plan_t plan, const std::function<void(reshard_reload_desc_t*)>& spoil = {}) {
    reshard_reload_desc_t change;
    reshard_reload_desc_init(&change);
    change.plan = plan;
    if (spoil) spoil(&change);
    return reshard_reload_update(reload, &change);
  }

  void run(int number) {
    for (std::int64_t i = 0; i < 2 * kHalf && !is_server; ++i) {
      values[static_cast<std::size_t>(i)] = value_of(i / kHalf, rank, i % kHalf, number);
    }
    EXPECT_EQ(reshard_reload_start(reload, nullptr), RESHARD_OK) << reshard_last_error();
    while (is_server) {
      reshard_reload_layer_t layer;
      reshard_reload_layer_init(&layer);
      std::int32_t has_layer = 0;
      EXPECT_EQ(reshard_reload_next(reload, kTimeoutUs, &layer, &has_layer), RESHARD_OK) << reshard_last_error();
      if (has_layer == 0) break;
      ASSERT_EQ(layer.num_outputs, 1);
      float sum = 0;
      for (std::int64_t i = 0; i < kHalf; ++i) sum += static_cast<const float*>(layer.buffers[0].ptr)[i];
      *static_cast<float*>(layer.outputs[0].ptr) = sum;
      EXPECT_EQ(reshard_reload_commit(reload, layer.group, nullptr), RESHARD_OK) << reshard_last_error();
    }
    EXPECT_EQ(reshard_reload_finish(reload, kTimeoutUs), RESHARD_OK) << reshard_last_error();
  }

  /// That this server has what the half of the run is, in `kept` the second tensor.
  void expect(int number, std::int64_t half, const float* kept) const {
    if (!is_server) return;
    for (std::int64_t t = 0; t < 2; ++t) {
      float sum = 0;
      for (std::int64_t i = 0; i < kHalf; ++i) sum += value_of(t, half, i, number);
      EXPECT_EQ(sums[static_cast<std::size_t>(t)], sum) << "rank " << rank << ", tensor " << t;
    }
    for (std::int64_t i = 0; i < kHalf; ++i) EXPECT_EQ(kept[i], value_of(1, half, i, number)) << "rank " << rank;
  }
  reshard_layer_state_t state(std::int64_t group) const {
    reshard_layer_state_t state = RESHARD_LAYER_TORN;
    EXPECT_EQ(reshard_reload_get_state(reload, group, &state), RESHARD_OK) << reshard_last_error();
    return state;
  }
  const float* second() const { return &values[kHalf]; }
  std::int64_t half() const { return rank - 2; }  ///< by the first table; the second has the other one

  std::int32_t rank;
  bool is_server;
  std::array<float, 2 * kHalf> values{};
  std::array<float, 2> sums{};
  std::vector<reshard_buffer_t> buffers;
  std::vector<reshard_reload_output_t> outputs;
  reshard_reload_desc_t desc;
  reshard_reload_t reload = nullptr;
};

TEST(ReloadUpdateApiTest, FollowsATableKeepsWhatIsServedAndTakesMovedMemory) {
  const Tables tables;
  run_on_local_comms(4, [&](reshard_comm_t comm, std::int32_t rank) {
    Site site(tables, comm, rank);
    site.run(1);
    site.expect(1, site.half(), site.second());
    std::int64_t scratch_bytes = -1;
    EXPECT_EQ(reshard_reload_get_stats(site.reload, nullptr, &scratch_bytes), RESHARD_OK);
    ASSERT_EQ(site.update(tables.updated), RESHARD_OK) << reshard_last_error();
    site.expect(1, site.half(), site.second());
    if (site.is_server) {
      EXPECT_EQ(site.state(10), RESHARD_LAYER_COMPLETE) << "of the run before";
    }
    site.run(2);
    site.expect(2, 1 - site.half(), site.second());
    std::int64_t scratch_after = -1;
    reshard_binding_stats_t stats;
    reshard_binding_stats_init(&stats);
    EXPECT_EQ(reshard_reload_get_stats(site.reload, &stats, &scratch_after), RESHARD_OK);
    EXPECT_EQ(stats.num_runs, 1);
    EXPECT_EQ(scratch_after, scratch_bytes);

    // Back, with the second tensor elsewhere and outputs that are given anew.
    std::array<float, kHalf> moved{};
    const reshard_buffer_t buffer = Site::buffer_of(1, moved.data());
    if (site.is_server) std::swap(site.outputs[0].ptr, site.outputs[1].ptr);
    ASSERT_EQ(site.update(tables.plan,
                          [&](reshard_reload_desc_t* change) {
                            if (!site.is_server) return;
                            change->num_dst_buffers = 1;
                            change->dst_buffers = &buffer;
                            change->num_outputs = 2;
                            change->outputs = site.outputs.data();
                          }),
              RESHARD_OK)
        << reshard_last_error();
    site.run(3);
    std::swap(site.sums[0], site.sums[1]);
    site.expect(3, site.half(), moved.data());
    reshard_reload_destroy(site.reload);  // before what it writes is gone
    site.reload = nullptr;
  });
}

/// What rank 3 gives wrong, all refuse, and have the reload that they had.
TEST(ReloadUpdateApiTest, WhatOneRankGetsWrongAllRefuse) {
  const Tables tables;
  const Sides others(replicating_spec(12, 5));
  const PlanOf of_eight_ranks(others, nullptr);
  run_on_local_comms(4, [&](reshard_comm_t comm, std::int32_t rank) {
    Site site(tables, comm, rank);
    site.run(1);
    EXPECT_EQ(reshard_reload_update(nullptr, &site.desc), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_EQ(reshard_reload_update(site.reload, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
    const auto refuse = [&](reshard_status_t code, const char* text,
                            const std::function<void(reshard_reload_desc_t*)>& spoil) {
      const auto mine = rank == 3 ? spoil : std::function<void(reshard_reload_desc_t*)>();
      EXPECT_EQ(site.update(tables.updated, mine), code) << text;
      EXPECT_THAT(reshard_last_error(), HasSubstr(text));
    };
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "plan is NULL", [](auto* change) { change->plan = nullptr; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "timeout_us is 0", [](auto* change) { change->timeout_us = 0; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "lands_directly is set", [](auto* change) { change->lands_directly = 1; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "there are -1 outputs", [](auto* change) { change->num_outputs = -1; });
    refuse(RESHARD_ERR_LAYOUT_MISMATCH, "the plan is for 8 ranks and the comm has 4",
           [&](auto* change) { change->plan = of_eight_ranks.handle; });
    reshard_buffer_t small = Site::buffer_of(1, site.values.data());
    small.size_bytes = 4;
    refuse(RESHARD_ERR_BUFFER_TOO_SMALL, "its layout needs", [&](auto* change) {
      change->num_dst_buffers = 1;
      change->dst_buffers = &small;
    });
    auto wrong = site.outputs;
    if (rank == 3) wrong[1].ptr = site.values.data() + kHalf;
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "overlaps", [&](auto* change) {
      change->num_outputs = 2;
      change->outputs = wrong.data();
    });
    const reshard_status_t stale = site.update(rank == 3 ? tables.plan : tables.updated);
    EXPECT_EQ(stale, RESHARD_ERR_PLAN_MISMATCH);
    EXPECT_THAT(reshard_last_error(), HasSubstr("(is its table of experts stale?)"));
    ASSERT_EQ(reshard_reload_start(site.reload, nullptr), RESHARD_OK);
    EXPECT_EQ(site.update(tables.updated), RESHARD_ERR_INVALID_STATE);
    EXPECT_EQ(reshard_reload_give_up(site.reload, nullptr), RESHARD_OK);
    EXPECT_NE(reshard_reload_finish(site.reload, kTimeoutUs), RESHARD_OK);
    site.run(2);
    site.expect(2, site.half(), site.second());
  });
}

/// The calls by which ranks bind, each as a rank makes it that has a binding and a reload.
struct Calls {
  reshard_binding_t binding;
  reshard_binding_desc_t to_bind;
  Site* site;

  reshard_status_t make(int call) const {
    reshard_binding_t created = nullptr;
    reshard_reload_t reload = nullptr;
    if (call == 0) return reshard_binding_create(&to_bind, &created);
    if (call == 1) return reshard_binding_update(binding, &to_bind);
    if (call == 2) return reshard_reload_create(&site->desc, &reload);
    return reshard_reload_update(site->reload, &site->desc);
  }
};

TEST(BindCallTest, RanksThatAreNotInTheSameCallAllHearWhichOnes) {
  const char* const names[] = {"reshard_binding_create", "reshard_binding_update", "reshard_reload_create",
                               "reshard_reload_update"};
  const Tables tables;
  run_on_local_comms(4, [&](reshard_comm_t comm, std::int32_t rank) {
    Site site(tables, comm, rank);
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = tables.plan;
    desc.comm = comm;
    desc.num_src_buffers = site.desc.num_src_buffers;
    desc.src_buffers = site.desc.src_buffers;
    std::array<float, kHalf> first{};
    site.buffers[0].ptr = site.is_server ? first.data() : site.values.data();
    desc.num_dst_buffers = site.desc.num_dst_buffers;
    desc.dst_buffers = site.desc.dst_buffers;
    Calls calls{nullptr, desc, &site};
    ASSERT_EQ(reshard_binding_create(&desc, &calls.binding), RESHARD_OK) << reshard_last_error();
    for (int most = 0; most < 4; ++most) {
      for (int odd = 0; odd < 4; ++odd) {
        if (most == odd) continue;
        EXPECT_EQ(calls.make(rank == 1 ? odd : most), RESHARD_ERR_INVALID_ARGUMENT) << names[most] << ' ' << names[odd];
        EXPECT_THAT(reshard_last_error(), AllOf(HasSubstr(names[most]), HasSubstr(names[odd])));
      }
    }
    ASSERT_EQ(calls.make(1), RESHARD_OK) << reshard_last_error();  // all are in step again
    reshard_binding_destroy(calls.binding);
    site.run(1);
  });
}

TEST(BindCallTest, AnotherExchangeIsNoCallThatBinds) {
  const Tables tables;
  run_on_local_comms(4, [&](reshard_comm_t comm, std::int32_t rank) {
    Site site(tables, comm, rank);
    if (rank == 1) {
      const std::array<std::byte, 3> words{};
      std::array<std::byte, 12> all{};
      reshard_comm_allgather(comm, words.data(), all.data(), 3, kTimeoutUs);
      return;
    }
    EXPECT_EQ(site.update(tables.plan), RESHARD_ERR_TRANSPORT);
    EXPECT_THAT(reshard_last_error(),
                HasSubstr("rank 1 is in another collective call than this rank's reshard_reload_"));
  });
}

}  // namespace
}  // namespace reshard::testing
