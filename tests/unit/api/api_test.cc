// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "reshard/reshard.h"
#include "tests/unit/api/transfer.h"
#include "tests/unit/temporary_file.h"

// The library through its C boundary alone.

namespace {

using ::reshard::testing::kTimeoutUs;
using ::testing::HasSubstr;

struct Layouts {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  ~Layouts() {
    reshard_layout_destroy(src);
    reshard_layout_destroy(dst);
  }
};

/// Ranks 0 and 1 hold halves; rank 2 wants all, in two groups.
void make_layouts(Layouts* layouts, std::int64_t rows = 10) {
  const std::int64_t shape[] = {rows, 6};
  const std::int64_t halves[] = {2};
  const std::int64_t whole[] = {1};
  const std::int32_t ranks[] = {0, 1, 2};
  reshard_axis_placement_t shard;
  reshard_axis_placement_init(&shard);
  shard.rule = RESHARD_SHARD_CHUNK;
  reshard_axis_placement_t replicate;
  reshard_axis_placement_init(&replicate);
  for (reshard_layout_t* side : {&layouts->src, &layouts->dst}) {
    const bool is_src = side == &layouts->src;
    ASSERT_EQ(reshard_layout_create(3, side), RESHARD_OK);
    for (const char* name : {"a", "b"}) {
      reshard_tensor_desc_t tensor;
      reshard_tensor_desc_init(&tensor);
      tensor.name = name;
      tensor.dtype = RESHARD_F32;
      tensor.num_dims = 2;
      tensor.shape = shape;
      tensor.group = name[0];
      reshard_placement_desc_t place;
      reshard_placement_desc_init(&place);
      ASSERT_EQ(reshard_layout_add_tensor(*side, &tensor, &place.tensor), RESHARD_OK);
      place.num_axes = 1;
      place.axis_sizes = is_src ? halves : whole;
      place.ranks = is_src ? ranks : ranks + 2;
      place.placements = is_src ? &shard : &replicate;
      ASSERT_EQ(reshard_layout_place(*side, &place), RESHARD_OK) << reshard_last_error();
    }
  }
}

/// One rank's memory for one side of a layout, from reshard_alloc.
struct Memory {
  Memory(reshard_layout_t layout, reshard_comm_t given, std::int32_t rank) : comm(given) {
    std::int64_t count = 0;
    EXPECT_EQ(reshard_layout_num_buffers(layout, rank, &count), RESHARD_OK);
    for (std::int64_t i = 0; i < count; ++i) {
      reshard_buffer_info_t info;
      reshard_buffer_info_init(&info);
      EXPECT_EQ(reshard_layout_get_buffer(layout, rank, i, &info), RESHARD_OK);
      void* ptr = nullptr;
      EXPECT_EQ(reshard_alloc(comm, static_cast<std::size_t>(info.size_bytes), &ptr), RESHARD_OK);
      reshard_buffer_t buffer;
      reshard_buffer_init(&buffer);
      buffer.id = info.id;
      buffer.ptr = ptr;
      buffer.size_bytes = static_cast<std::size_t>(info.size_bytes);
      buffers.push_back(buffer);
    }
  }
  ~Memory() {
    for (const reshard_buffer_t& buffer : buffers) EXPECT_EQ(reshard_free(comm, buffer.ptr), RESHARD_OK);
  }
  float* floats(std::size_t i) const { return static_cast<float*>(buffers[i].ptr); }
  reshard_comm_t comm;
  std::vector<reshard_buffer_t> buffers;
};

void run_rank(const Layouts& layouts, reshard_plan_t plan, reshard_comm_t comm) {
  std::int32_t rank = -1;
  ASSERT_EQ(reshard_comm_rank(comm, &rank), RESHARD_OK);
  {
    const Memory src(layouts.src, comm, rank);
    const Memory dst(layouts.dst, comm, rank);
    for (std::size_t b = 0; b < src.buffers.size(); ++b) {
      for (int i = 0; i < 30; ++i) src.floats(b)[i] = static_cast<float>(1000 * static_cast<int>(b) + rank * 30 + i);
    }
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan;
    desc.comm = comm;
    desc.src_buffers = src.buffers.data();
    desc.num_src_buffers = static_cast<std::int64_t>(src.buffers.size());
    desc.dst_buffers = dst.buffers.data();
    desc.num_dst_buffers = static_cast<std::int64_t>(dst.buffers.size());
    reshard_binding_t binding = nullptr;
    ASSERT_EQ(reshard_binding_create(&desc, &binding), RESHARD_OK) << reshard_last_error();
    int stream = 0;
    EXPECT_EQ(reshard_binding_start(binding, &stream), RESHARD_ERR_INVALID_ARGUMENT);
    void* event = &stream;
    EXPECT_EQ(reshard_binding_get_group_event(binding, 'a', &event), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_EQ(event, nullptr);
    EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK);
    EXPECT_EQ(reshard_binding_wait_group(binding, 'z', kTimeoutUs), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("97, 98"));
    EXPECT_EQ(reshard_binding_wait_group(binding, 'a', 0), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_EQ(reshard_binding_wait_group(binding, 'b', kTimeoutUs), RESHARD_OK);
    EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK);
    for (std::size_t b = 0; b < dst.buffers.size(); ++b) {
      for (int i = 0; i < 60; ++i) EXPECT_EQ(dst.floats(b)[i], static_cast<float>(1000 * static_cast<int>(b) + i));
    }
    reshard_binding_stats_t stats;
    reshard_binding_stats_init(&stats);
    EXPECT_EQ(reshard_binding_get_stats(binding, &stats), RESHARD_OK);
    EXPECT_EQ(stats.num_runs, 1);
    EXPECT_EQ(stats.num_groups_complete, 2);
    EXPECT_EQ(stats.bytes_mapped, rank == 2 ? 480 : 0);
    reshard_binding_destroy(binding);
  }
  EXPECT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
  reshard_comm_destroy(comm);
}

TEST(ApiTest, ATransferRunsFromLayoutsToValues) {
  Layouts layouts;
  make_layouts(&layouts);
  reshard_plan_t plan = nullptr;
  ASSERT_EQ(reshard_plan_create(layouts.src, layouts.dst, nullptr, &plan), RESHARD_OK) << reshard_last_error();
  reshard_comm_t comms[3];
  ASSERT_EQ(reshard_comm_create_local(3, nullptr, comms), RESHARD_OK);
  std::vector<std::thread> threads;
  for (reshard_comm_t comm : comms) threads.emplace_back([&, comm] { run_rank(layouts, plan, comm); });
  for (std::thread& thread : threads) thread.join();
  reshard_plan_destroy(plan);
}

TEST(ApiTest, PlansKeepTheLayoutTheyWereMadeFrom) {
  Layouts layouts;
  make_layouts(&layouts);
  reshard_plan_t first = nullptr;
  reshard_plan_t second = nullptr;
  ASSERT_EQ(reshard_plan_create(layouts.src, layouts.dst, nullptr, &first), RESHARD_OK);
  reshard_tensor_desc_t tensor;
  reshard_tensor_desc_init(&tensor);
  tensor.name = "scalar that nobody holds";
  std::int64_t id = 0;
  ASSERT_EQ(reshard_layout_add_tensor(layouts.src, &tensor, &id), RESHARD_OK);
  EXPECT_EQ(reshard_plan_create(layouts.src, layouts.dst, nullptr, &second), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_EQ(second, nullptr);
  reshard_plan_info_t info;
  reshard_plan_info_init(&info);
  EXPECT_EQ(reshard_plan_get_info(first, &info), RESHARD_OK);
  EXPECT_EQ(info.num_tensors, 2);
  EXPECT_EQ(info.num_messages, 2);
  EXPECT_EQ(info.bytes_crossed, 480);
  reshard_plan_destroy(first);
}

TEST(ApiTest, PlansAreSavedAndLoaded) {
  Layouts layouts;
  make_layouts(&layouts);
  Layouts others;
  make_layouts(&others, 12);
  reshard_plan_t plan = nullptr;
  ASSERT_EQ(reshard_plan_create(layouts.src, layouts.dst, nullptr, &plan), RESHARD_OK);
  const reshard::TemporaryFile file(".plan");
  ASSERT_EQ(reshard_plan_save(plan, file.path().c_str()), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_plan_save(plan, "/no/such/folder/plan"), RESHARD_ERR_IO);
  reshard_plan_t loaded = nullptr;
  EXPECT_EQ(reshard_plan_load(file.path().c_str(), others.src, others.dst, nullptr, &loaded),
            RESHARD_ERR_PLAN_MISMATCH);
  EXPECT_EQ(reshard_plan_load("/no/such/plan", layouts.src, layouts.dst, nullptr, &loaded), RESHARD_ERR_IO);
  EXPECT_THAT(reshard_last_error(), HasSubstr("/no/such/plan"));
  ASSERT_EQ(reshard_plan_load(file.path().c_str(), layouts.src, layouts.dst, nullptr, &loaded), RESHARD_OK)
      << reshard_last_error();
  reshard_plan_info_t infos[2];
  for (reshard_plan_info_t& info : infos) reshard_plan_info_init(&info);
  EXPECT_EQ(reshard_plan_get_info(plan, &infos[0]), RESHARD_OK);
  EXPECT_EQ(reshard_plan_get_info(loaded, &infos[1]), RESHARD_OK);
  EXPECT_EQ(infos[0].hash, infos[1].hash);
  reshard_plan_destroy(plan);
  reshard_plan_destroy(loaded);
}

TEST(ApiTest, NullArgumentsAreNamed) {
  EXPECT_EQ(reshard_layout_create(1, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_STREQ(reshard_last_error(), "layout is NULL");
  reshard_plan_t plan = reinterpret_cast<reshard_plan_t>(&plan);
  EXPECT_EQ(reshard_plan_create(nullptr, nullptr, nullptr, &plan), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(plan, nullptr);
  EXPECT_EQ(reshard_binding_start(nullptr, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_comm_create_from_callback(nullptr, nullptr, 0, 1, nullptr, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  reshard_layout_destroy(nullptr);
  reshard_plan_destroy(nullptr);
  reshard_comm_destroy(nullptr);
  reshard_binding_destroy(nullptr);
  reshard_plan_options_init(nullptr);
}

TEST(ApiTest, StructsThatWereNotInitialisedAreRefused) {
  Layouts layouts;
  ASSERT_EQ(reshard_layout_create(1, &layouts.src), RESHARD_OK);
  reshard_tensor_desc_t tensor{};
  std::int64_t id = 0;
  EXPECT_EQ(reshard_layout_add_tensor(layouts.src, &tensor, &id), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("reshard_tensor_desc_t"));
  EXPECT_THAT(reshard_last_error(), HasSubstr("init"));
}

TEST(ApiTest, ARefusedPlacementLeavesNothingBehind) {
  Layouts layouts;
  make_layouts(&layouts);
  const std::int64_t sizes[] = {2};
  const std::int32_t repeated[] = {1, 1};
  const std::int32_t outside[] = {1, 3};
  reshard_axis_placement_t shard;
  reshard_axis_placement_init(&shard);
  shard.rule = RESHARD_SHARD_EVEN;
  reshard_placement_desc_t place;
  reshard_placement_desc_init(&place);
  place.num_axes = 1;
  place.axis_sizes = sizes;
  place.placements = &shard;
  for (const std::int32_t* ranks : {repeated, outside}) {
    place.ranks = ranks;
    EXPECT_EQ(reshard_layout_place(layouts.src, &place), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr(ranks == repeated ? "rank 1 is repeated" : "rank 3"));
  }
  std::int64_t count = 0;
  EXPECT_EQ(reshard_layout_num_buffers(layouts.src, 1, &count), RESHARD_OK);
  EXPECT_EQ(count, 2);
}

TEST(ApiTest, NamesAndSizesOfStatusesAndTypes) {
  EXPECT_STREQ(reshard_status_name(RESHARD_ERR_TIMEOUT), "RESHARD_ERR_TIMEOUT");
  reshard_dtype_t dtype = RESHARD_U8;
  EXPECT_EQ(reshard_dtype_parse("bf16", &dtype), RESHARD_OK);
  EXPECT_EQ(dtype, RESHARD_BF16);
  EXPECT_EQ(reshard_dtype_size_bytes(RESHARD_F64), 8U);
  EXPECT_EQ(reshard_dtype_parse("float", &dtype), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("BF16"));
}

}  // namespace
