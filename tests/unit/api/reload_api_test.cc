// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kElements = 12 * 5;  // of each of the three tensors, in groups 0, 10 and 20
constexpr std::int32_t kNumRanks = 8;       // 0 to 3 hold a quarter each, 4 to 7 want all

float value_of(std::int64_t group, std::int64_t element, int run) {
  return static_cast<float>(1000 * run + 100 * group + element);
}

reshard_plan_t plan_of(const Sides& sides, std::int64_t open_groups) {
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.open_groups = open_groups;
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_OK) << reshard_last_error();
  return plan;
}

/// One rank: a trainer's memory or a server's, and the reload of both.
struct Rank {
  Rank(const Sides& sides, reshard_comm_t comm, std::int32_t rank)
      : is_server(rank >= 4), values(static_cast<std::size_t>(3 * kElements)), doubled(values.size()) {
    reshard_reload_desc_init(&desc);
    desc.comm = comm;
    list(is_server ? sides.dst : sides.src, rank);
    (is_server ? desc.num_dst_buffers : desc.num_src_buffers) = 3;
    (is_server ? desc.dst_buffers : desc.src_buffers) = buffers.data();
  }
  void list(reshard_layout_t layout, std::int32_t rank) {
    for (std::int64_t i = 0; i < 3; ++i) {
      reshard_buffer_info_t info;
      reshard_buffer_info_init(&info);
      EXPECT_EQ(reshard_layout_get_buffer(layout, rank, i, &info), RESHARD_OK);
      reshard_buffer_t buffer;
      reshard_buffer_init(&buffer);
      buffer.id = info.id;
      buffer.ptr = values.data() + i * kElements;
      buffer.size_bytes = static_cast<std::size_t>(info.size_bytes);
      buffers.push_back(buffer);
    }
  }
  /// Tensors lie in scratch alone; beside that, twice their values are made of them.
  void want_outputs() {
    for (std::int64_t i = 0; i < 3 && is_server; ++i) {
      buffers[static_cast<std::size_t>(i)].ptr = nullptr;
      reshard_reload_output_t output;
      reshard_reload_output_init(&output);
      output.group = 10 * i;
      output.ptr = doubled.data() + i * kElements;
      output.size_bytes = kElements * sizeof(float);
      outputs.push_back(output);
    }
    desc.num_outputs = static_cast<std::int64_t>(outputs.size());
    desc.outputs = outputs.data();
  }
  reshard_reload_t create() {
    reshard_reload_t reload = nullptr;
    EXPECT_EQ(reshard_reload_create(&desc, &reload), RESHARD_OK) << reshard_last_error();
    return reload;
  }
  void train(std::int32_t rank, int run) {
    for (std::int64_t i = 0; i < 3 * kElements && !is_server; ++i) {
      const std::int64_t tensor = i / kElements;
      values[static_cast<std::size_t>(i)] = value_of(10 * tensor, rank * kElements / 4 + i % kElements, run);
    }
  }

  bool is_server;
  std::vector<float> values;
  std::vector<float> doubled;
  std::vector<reshard_buffer_t> buffers;
  std::vector<reshard_reload_output_t> outputs;
  reshard_reload_desc_t desc;
};

/// The hook of these tests.
void make_doubled(const reshard_reload_layer_t& layer) {
  ASSERT_EQ(layer.num_buffers, 1);
  ASSERT_EQ(layer.num_outputs, 1);
  const auto* from = static_cast<const float*>(layer.buffers[0].ptr);
  auto* to = static_cast<float*>(layer.outputs[0].ptr);
  for (std::int64_t i = 0; i < kElements; ++i) to[i] = 2 * from[i];
}

bool holds(const std::vector<float>& memory, std::int64_t tensor, int run, float factor) {
  for (std::int64_t i = 0; i < kElements; ++i) {
    if (memory[static_cast<std::size_t>(tensor * kElements + i)] != factor * value_of(10 * tensor, i, run))
      return false;
  }
  return true;
}

reshard_layer_state_t state_of(reshard_reload_t reload, std::int64_t group) {
  reshard_layer_state_t state = RESHARD_LAYER_TORN;
  EXPECT_EQ(reshard_reload_get_state(reload, group, &state), RESHARD_OK) << reshard_last_error();
  return state;
}

/// Takes one layer, and nothing if there is none: its group, or -1.
std::int64_t take(reshard_reload_t reload) {
  reshard_reload_layer_t layer;
  reshard_reload_layer_init(&layer);
  std::int32_t has_layer = 0;
  EXPECT_EQ(reshard_reload_next(reload, kTimeoutUs, &layer, &has_layer), RESHARD_OK) << reshard_last_error();
  if (has_layer == 0) return -1;
  make_doubled(layer);
  return layer.group;
}

TEST(ReloadApiTest, OutputsAreMadeOfLayersInScratchOfAsManyAsMayBeOpen) {
  const Sides sides(replicating_spec(12, 5));
  for (const std::int64_t open : {1, 2, 0}) {
    reshard_plan_t plan = plan_of(sides, open);
    run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
      Rank mine(sides, comm, rank);
      mine.want_outputs();
      mine.desc.plan = plan;
      reshard_reload_t reload = mine.create();
      ASSERT_NE(reload, nullptr);
      std::int64_t scratch_bytes = -1;
      reshard_binding_stats_t stats;
      reshard_binding_stats_init(&stats);
      EXPECT_EQ(reshard_reload_get_stats(reload, &stats, &scratch_bytes), RESHARD_OK);
      const std::int64_t layer_bytes = 2 * 512;  // a tensor and an output of 240 bytes, each aligned
      EXPECT_EQ(scratch_bytes, mine.is_server ? (open == 0 ? 3 : open) * layer_bytes : 0);
      for (int run = 0; run < 3; ++run) {
        mine.train(rank, run);
        ASSERT_EQ(reshard_reload_start(reload, nullptr), RESHARD_OK);
        for (std::int64_t tensor = 0; tensor < 3 && mine.is_server; ++tensor) {
          EXPECT_EQ(take(reload), 10 * tensor);
          EXPECT_FALSE(holds(mine.doubled, tensor, run, 2)) << "before it was committed";
          EXPECT_EQ(reshard_reload_commit(reload, 10 * tensor, nullptr), RESHARD_OK);
          EXPECT_TRUE(holds(mine.doubled, tensor, run, 2));
        }
        if (mine.is_server) {
          EXPECT_EQ(take(reload), -1);
        }
        EXPECT_EQ(reshard_reload_finish(reload, kTimeoutUs), RESHARD_OK) << reshard_last_error();
      }
      EXPECT_EQ(reshard_reload_get_stats(reload, &stats, nullptr), RESHARD_OK);
      EXPECT_EQ(stats.num_runs, 3);
      reshard_reload_destroy(reload);
    });
    reshard_plan_destroy(plan);
  }
}

TEST(ReloadApiTest, WhatNeedsNoHookIsCommittedByFinish) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 1);
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    for (const std::int32_t lands_directly : {0, 1}) {
      Rank mine(sides, comm, rank);
      mine.desc.plan = plan;
      mine.desc.lands_directly = lands_directly;
      mine.train(rank, 1);
      reshard_reload_t reload = mine.create();
      ASSERT_NE(reload, nullptr);
      std::int64_t scratch_bytes = -1;
      EXPECT_EQ(reshard_reload_get_stats(reload, nullptr, &scratch_bytes), RESHARD_OK);
      EXPECT_EQ(scratch_bytes, mine.is_server && lands_directly == 0 ? 512 : 0);
      EXPECT_EQ(reshard_reload_start(reload, nullptr), RESHARD_OK);
      EXPECT_EQ(reshard_reload_finish(reload, kTimeoutUs), RESHARD_OK) << reshard_last_error();
      for (std::int64_t tensor = 0; tensor < 3 && mine.is_server; ++tensor) {
        EXPECT_TRUE(holds(mine.values, tensor, 1, 1));
        const reshard_layer_state_t state = state_of(reload, 10 * tensor);
        EXPECT_EQ(state, RESHARD_LAYER_COMPLETE);
      }
      reshard_reload_destroy(reload);
    }
  });
  reshard_plan_destroy(plan);
}

/// The hook of rank 5 fails at its second layer: all ranks hear of a failure, and each layer is new or as it was.
TEST(ReloadApiTest, AHookThatFailsLeavesEachLayerCompleteOrUnchanged) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 2);
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    Rank mine(sides, comm, rank);
    mine.want_outputs();
    mine.desc.plan = plan;
    reshard_reload_t reload = mine.create();
    ASSERT_NE(reload, nullptr);
    for (int run = 0; run < 3; ++run) {
      const bool fails = run == 1;
      mine.train(rank, run);
      ASSERT_EQ(reshard_reload_start(reload, nullptr), RESHARD_OK);
      for (std::int64_t tensor = 0; tensor < 3 && mine.is_server; ++tensor) {
        if (fails && rank == 5 && tensor == 1) {
          EXPECT_EQ(reshard_reload_give_up(reload, "a scale is not a number"), RESHARD_OK);
        }
        reshard_reload_layer_t layer;
        reshard_reload_layer_init(&layer);
        std::int32_t has_layer = 0;
        if (reshard_reload_next(reload, kTimeoutUs, &layer, &has_layer) != RESHARD_OK) break;
        make_doubled(layer);
        EXPECT_EQ(reshard_reload_commit(reload, layer.group, nullptr), RESHARD_OK);
      }
      const reshard_status_t status = reshard_reload_finish(reload, kTimeoutUs);
      EXPECT_EQ(status == RESHARD_OK, !fails) << reshard_last_error();
      if (fails && rank == 5) {
        EXPECT_EQ(status, RESHARD_ERR_GIVEN_UP);
        EXPECT_THAT(reshard_last_error(), HasSubstr("a scale is not a number"));
      }
      for (std::int64_t tensor = 0; tensor < 3 && mine.is_server; ++tensor) {
        const reshard_layer_state_t state = state_of(reload, 10 * tensor);
        EXPECT_TRUE(state == RESHARD_LAYER_COMPLETE || (fails && state == RESHARD_LAYER_UNCHANGED));
        EXPECT_TRUE(holds(mine.doubled, tensor, state == RESHARD_LAYER_COMPLETE ? run : run - 1, 2));
        if (fails && rank == 5) {
          EXPECT_EQ(state == RESHARD_LAYER_COMPLETE, tensor == 0);
        }
      }
    }
    reshard_reload_destroy(reload);
  });
  reshard_plan_destroy(plan);
}

TEST(ReloadApiTest, CallsOutOfTurnAreRefused) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 1);
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    Rank mine(sides, comm, rank);
    mine.want_outputs();
    mine.desc.plan = plan;
    reshard_reload_t reload = mine.create();
    ASSERT_NE(reload, nullptr);
    reshard_reload_layer_t layer;
    reshard_reload_layer_init(&layer);
    std::int32_t has_layer = 0;
    EXPECT_EQ(reshard_reload_next(reload, kTimeoutUs, &layer, &has_layer), RESHARD_ERR_INVALID_STATE);
    EXPECT_EQ(reshard_reload_finish(reload, kTimeoutUs), RESHARD_ERR_INVALID_STATE);
    EXPECT_EQ(reshard_reload_poll(reload, &has_layer), RESHARD_ERR_INVALID_STATE);
    EXPECT_EQ(reshard_reload_give_up(reload, nullptr), RESHARD_ERR_INVALID_STATE);
    mine.train(rank, 0);
    ASSERT_EQ(reshard_reload_start(reload, nullptr), RESHARD_OK);
    EXPECT_EQ(reshard_reload_start(reload, nullptr), RESHARD_ERR_INVALID_STATE);
    EXPECT_EQ(reshard_reload_commit(reload, 7, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
    reshard_layer_state_t state = RESHARD_LAYER_TORN;
    EXPECT_EQ(reshard_reload_get_state(reload, 7, &state), RESHARD_ERR_INVALID_ARGUMENT);
    if (mine.is_server) {
      EXPECT_EQ(reshard_reload_commit(reload, 0, nullptr), RESHARD_ERR_INVALID_STATE);
      for (has_layer = 0; has_layer == 0;) ASSERT_EQ(reshard_reload_poll(reload, &has_layer), RESHARD_OK);
      EXPECT_EQ(take(reload), 0);
      // One may be open, and it is with the caller.
      EXPECT_EQ(reshard_reload_next(reload, kTimeoutUs, &layer, &has_layer), RESHARD_ERR_INVALID_STATE);
      EXPECT_THAT(reshard_last_error(), HasSubstr("group 10 cannot come before group 0 is committed"));
      for (std::int64_t group = 0; group < 30; group += 10) {
        if (group > 0) {
          EXPECT_EQ(take(reload), group);
        }
        EXPECT_EQ(reshard_reload_commit(reload, group, nullptr), RESHARD_OK);
        EXPECT_EQ(reshard_reload_commit(reload, group, nullptr), RESHARD_ERR_INVALID_STATE);
      }
    }
    EXPECT_EQ(reshard_reload_finish(reload, kTimeoutUs), RESHARD_OK) << reshard_last_error();
    reshard_reload_destroy(reload);
  });
  reshard_plan_destroy(plan);
}

TEST(ReloadApiTest, WrongOutputsOfOneRankAreAnErrorOnAll) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 1);
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    for (int fault = 0; fault < 3; ++fault) {
      Rank mine(sides, comm, rank);
      mine.want_outputs();
      mine.desc.plan = plan;
      if (rank == 6 && fault == 0) mine.outputs[1].group = 11;
      if (rank == 6 && fault == 1) mine.outputs[1].ptr = mine.doubled.data() + 3;
      if (rank == 6 && fault == 2) mine.outputs[1].ptr = nullptr;
      reshard_reload_t reload = nullptr;
      EXPECT_EQ(reshard_reload_create(&mine.desc, &reload), RESHARD_ERR_INVALID_ARGUMENT);
      const char* const expected[] = {"output 1: the plan has no group 11", "output 1 overlaps output 0",
                                      "output 1 has 240 bytes at NULL"};
      EXPECT_THAT(reshard_last_error(), HasSubstr(expected[fault]));
      EXPECT_EQ(reload, nullptr);
    }
  });
  reshard_plan_destroy(plan);
}

TEST(ManifestApiTest, SaysWhatCompletesEachTensor) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 0);
  reshard_manifest_t manifest = nullptr;
  EXPECT_EQ(reshard_manifest_create(plan, 8, &manifest), RESHARD_ERR_INVALID_ARGUMENT);
  ASSERT_EQ(reshard_manifest_create(plan, 5, &manifest), RESHARD_OK);
  std::int64_t num_tensors = 0;
  EXPECT_EQ(reshard_manifest_num_tensors(manifest, &num_tensors), RESHARD_OK);
  ASSERT_EQ(num_tensors, 3);
  reshard_manifest_tensor_t tensor;
  reshard_manifest_tensor_init(&tensor);
  EXPECT_EQ(reshard_manifest_get_tensor(manifest, 3, &tensor), RESHARD_ERR_INVALID_ARGUMENT);
  ASSERT_EQ(reshard_manifest_get_tensor(manifest, 2, &tensor), RESHARD_OK);
  EXPECT_STREQ(tensor.name, "t2");
  EXPECT_EQ(tensor.group, 20);
  EXPECT_EQ(tensor.num_elements, kElements);
  EXPECT_EQ(tensor.written_bytes, kElements * 4);
  std::int64_t elements = 0;
  reshard_manifest_piece_t piece;
  reshard_manifest_piece_init(&piece);
  for (std::int64_t i = 0; i < tensor.num_pieces; ++i) {
    ASSERT_EQ(reshard_manifest_get_piece(manifest, 2, i, &piece), RESHARD_OK);
    EXPECT_STREQ(piece.source, "t2");
    EXPECT_EQ(piece.from_rank, piece.source_rank);
    EXPECT_EQ(piece.begin[0] / 3, piece.source_rank);
    elements += piece.num_elements;
  }
  EXPECT_EQ(elements, kElements);
  EXPECT_EQ(reshard_manifest_get_piece(manifest, 2, tensor.num_pieces, &piece), RESHARD_ERR_INVALID_ARGUMENT);
  reshard_manifest_destroy(manifest);
  reshard_plan_destroy(plan);
}

TEST(PlanUpdateApiTest, KeepsWhatIsTheSameAndRefusesOtherTensors) {
  const Sides sides(replicating_spec(12, 5));
  const Sides others(replicating_spec(12, 6));
  reshard_plan_t plan = plan_of(sides, 0);
  reshard_plan_t updated = nullptr;
  ASSERT_EQ(reshard_plan_update(plan, sides.dst, &updated), RESHARD_OK) << reshard_last_error();
  const char* json = nullptr;
  EXPECT_EQ(reshard_plan_report_json(updated, &json), RESHARD_OK);
  EXPECT_THAT(json, HasSubstr("\"tensors_changed\":0"));
  reshard_plan_destroy(updated);
  EXPECT_EQ(reshard_plan_update(plan, others.dst, &updated), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(), HasSubstr("\"t0\" has another shape"));
  EXPECT_EQ(updated, nullptr);
  reshard_plan_destroy(plan);
}

/// A binding of all of a rank's buffers.
reshard_binding_desc_t binding_desc(const Rank& mine, reshard_plan_t plan, reshard_comm_t comm) {
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  desc.num_src_buffers = mine.desc.num_src_buffers;
  desc.src_buffers = mine.desc.src_buffers;
  desc.num_dst_buffers = mine.desc.num_dst_buffers;
  desc.dst_buffers = mine.desc.dst_buffers;
  return desc;
}

/// A run, and that it brought what rank 0 to 3 have of round `round`.
void run_and_verify(reshard_binding_t binding, Rank* mine, std::int32_t rank, int round) {
  mine->train(rank, round);
  EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_binding_verify(binding, kTimeoutUs), RESHARD_OK) << reshard_last_error();
}

/// The binding is updated in place, or is as it was: what one rank gives wrong, all refuse.
TEST(BindingUpdateApiTest, FollowsAPlanOrStaysAsItIs) {
  const Sides sides(replicating_spec(12, 5));
  const Sides others(replicating_spec(12, 6));
  reshard_plan_t plan = plan_of(sides, 0);
  reshard_plan_t other_plan = plan_of(others, 0);
  reshard_plan_t updated = nullptr;
  ASSERT_EQ(reshard_plan_update(plan, sides.dst, &updated), RESHARD_OK) << reshard_last_error();
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    Rank mine(sides, comm, rank);
    reshard_binding_desc_t desc = binding_desc(mine, plan, comm);
    reshard_binding_t binding = nullptr;
    ASSERT_EQ(reshard_binding_create(&desc, &binding), RESHARD_OK) << reshard_last_error();
    run_and_verify(binding, &mine, rank, 0);
    EXPECT_EQ(reshard_binding_update(nullptr, &desc), RESHARD_ERR_INVALID_ARGUMENT);
    const auto refuse = [&](reshard_status_t code, const char* text, const std::function<void()>& spoil) {
      reshard_binding_desc_init(&desc);
      desc.plan = updated;
      if (rank == 2) spoil();
      EXPECT_EQ(reshard_binding_update(binding, &desc), code) << text;
      EXPECT_THAT(reshard_last_error(), HasSubstr(text));
    };
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "plan is NULL", [&] { desc.plan = nullptr; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "timeout_us is 0", [&] { desc.timeout_us = 0; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "capturable is set", [&] { desc.capturable = 1; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "another driver is set", [&] { desc.driver = RESHARD_DRIVER_NCCL; });
    refuse(RESHARD_ERR_INVALID_ARGUMENT, "there are -1 source buffers", [&] { desc.num_src_buffers = -1; });
    refuse(RESHARD_ERR_BUFFER_TOO_SMALL, "its layout needs", [&] { desc.plan = other_plan; });
    run_and_verify(binding, &mine, rank, 1);
    reshard_binding_desc_init(&desc);
    desc.plan = updated;
    ASSERT_EQ(reshard_binding_update(binding, &desc), RESHARD_OK) << reshard_last_error();
    run_and_verify(binding, &mine, rank, 2);
    reshard_binding_stats_t stats;
    reshard_binding_stats_init(&stats);
    EXPECT_EQ(reshard_binding_get_stats(binding, &stats), RESHARD_OK);
    EXPECT_EQ(stats.num_runs, 1);
    reshard_binding_destroy(binding);
  });
  for (reshard_plan_t each : {plan, other_plan, updated}) reshard_plan_destroy(each);
}

TEST(VerifyApiTest, AChangedElementIsFoundByAllRanks) {
  const Sides sides(replicating_spec(12, 5));
  reshard_plan_t plan = plan_of(sides, 0);
  run_on_local_comms(kNumRanks, [&](reshard_comm_t comm, std::int32_t rank) {
    Rank mine(sides, comm, rank);
    const reshard_binding_desc_t desc = binding_desc(mine, plan, comm);
    reshard_binding_t binding = nullptr;
    ASSERT_EQ(reshard_binding_create(&desc, &binding), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(reshard_binding_verify(binding, kTimeoutUs), RESHARD_ERR_INVALID_STATE);
    mine.train(rank, 0);
    EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK);
    EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK);
    EXPECT_EQ(reshard_binding_verify(binding, kTimeoutUs), RESHARD_OK) << reshard_last_error();
    if (rank == 7) mine.values[kElements + 3] += 1;
    EXPECT_EQ(reshard_binding_verify(binding, kTimeoutUs), RESHARD_ERR_DATA_MISMATCH);
    EXPECT_THAT(reshard_last_error(), HasSubstr("tensor \"t1\""));
    EXPECT_THAT(reshard_last_error(), HasSubstr("not on ranks 7;"));
    reshard_binding_destroy(binding);
  });
  reshard_plan_destroy(plan);
}

}  // namespace
}  // namespace reshard::testing
