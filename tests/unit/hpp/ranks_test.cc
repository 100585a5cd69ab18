// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What several ranks do together, each a thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.hpp>

#include <cstring>
#include <thread>

#include "tests/unit/hpp/transfer.h"

namespace hpp_test {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using testing::ElementsAre;
using testing::HasSubstr;

/// One call for each rank, each on a thread of its own.
template <typename Function>
void on_all(std::vector<reshard::Comm>& comms, Function function) {
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < comms.size(); ++rank) {
    threads.emplace_back([&, rank] { function(comms[rank], static_cast<std::int32_t>(rank)); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HppRanksTest, RowsBecomeColumnsAgainAndAgain) {
  auto comms = must(reshard::Comm::local(2));
  on_all(comms, [](reshard::Comm& comm, std::int32_t rank) {
    const auto layouts = must(reshard::Layout::from_spec(kRowsToColumns));
    const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
    const auto rows = must(comm.alloc(32)), columns = must(comm.alloc(32));
    auto binding =
        must(reshard::Binding::create(plan, comm,
                                      {.src = {{.ptr = rows.data(), .size_bytes = rows.size_bytes()}},
                                       .dst = {{.ptr = columns.data(), .size_bytes = columns.size_bytes()}}}));
    for (int step = 1; step < 4; ++step) {
      for (std::size_t i = 0; i < 8; ++i) rows.as<float>()[i] = static_cast<float>(100 * step + 8 * rank) + float(i);
      must(binding.start());
      must(binding.wait_group(0, 10s));
      must(binding.finish(10s));
      must(binding.verify(10s));
      for (std::size_t i = 0; i < 8; ++i) {
        const auto row = static_cast<int>(i / 2), column = static_cast<int>(i % 2) + 2 * rank;
        EXPECT_EQ(columns.as<float>()[i], static_cast<float>(100 * step + 4 * row + column)) << step << ' ' << i;
      }
    }
    const auto stats = must(binding.stats());
    EXPECT_EQ(stats.num_runs, 3);
    EXPECT_EQ(stats.num_groups_complete, 1);
    EXPECT_EQ(must(binding.driver()).driver, RESHARD_DRIVER_POLL);
    EXPECT_THAT(must(binding.driver()).reason, testing::Not(testing::StrEq("")));
    std::byte all[2] = {};  // a barrier: the peer may still read the rows
    const std::byte mine{1};
    must(comm.allgather({&mine, 1}, all, 10s));
  });
}

TEST(HppRanksTest, ABindingGoesOnWithAnotherPlanAndAnotherPlace) {
  auto comms = must(reshard::Comm::local(2));
  on_all(comms, [](reshard::Comm& comm, std::int32_t rank) {
    const auto layouts = must(reshard::Layout::from_spec(kRowsToColumns));
    const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
    std::vector<float> rows(8), columns(8, -1.0F), elsewhere(8, -1.0F);
    for (std::size_t i = 0; i < 8; ++i) rows[i] = static_cast<float>(8 * rank) + static_cast<float>(i);
    auto binding = must(reshard::Binding::create(
        plan, comm,
        {.src = {{.ptr = rows.data(), .size_bytes = 32}}, .dst = {{.ptr = columns.data(), .size_bytes = 32}}}));

    auto swapped = must(reshard::Layout::create(2));  // rank 0 gets the last columns
    const auto tensor = must(swapped.add_tensor({.name = "w", .shape = {4, 4}}));
    must(swapped.place(tensor, {.axes = {{.size = 2, .rule = RESHARD_SHARD_CHUNK, .dim = 1}}, .ranks = {1, 0}}));
    const auto other = must(plan.update(swapped));
    must(binding.update(other, {.dst = {{.ptr = elsewhere.data(), .size_bytes = 32}}, .timeout = 10s}));
    must(binding.start());
    must(binding.finish(10s));
    for (std::size_t i = 0; i < 8; ++i) {
      const auto row = static_cast<int>(i / 2), column = static_cast<int>(i % 2) + 2 * (1 - rank);
      EXPECT_EQ(elsewhere[i], static_cast<float>(4 * row + column)) << i;
    }
    EXPECT_EQ(columns, std::vector<float>(8, -1.0F));
    must(binding.update(other, {.dst = {{.ptr = columns.data(), .size_bytes = 32}}}));  // the same plan, moved memory
    must(binding.start());
    must(binding.finish(10s));
    EXPECT_EQ(columns, elsewhere);
    std::byte all[2] = {};  // a barrier: the peer may still read the rows
    const std::byte mine{1};
    must(comm.allgather({&mine, 1}, all, 10s));
  });
  reshard::Binding none;
  EXPECT_EQ(none.update(reshard::Plan()).error().status, RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(HppRanksTest, PollingTellsWhichGroupsAreCompleteUntilTheRunIs) {
  auto comms = must(reshard::Comm::local(2));
  on_all(comms, [](reshard::Comm& comm, std::int32_t) {
    const auto layouts = must(reshard::Layout::from_spec(kRowsToColumns));
    const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
    std::vector<float> rows(8), columns(8);
    auto binding = must(reshard::Binding::create(
        plan, comm,
        {.src = {{.ptr = rows.data(), .size_bytes = 32}}, .dst = {{.ptr = columns.data(), .size_bytes = 32}}}));
    must(binding.start());
    std::int64_t groups[4] = {-1, -1, -1, -1};
    reshard::Progress progress;
    while (!progress.is_complete) progress = must(binding.poll(groups));
    EXPECT_EQ(progress.num_groups, 1);
    EXPECT_EQ(groups[0], 0);
    EXPECT_EQ(groups[1], -1);
    must(binding.finish(10s));
  });
}

TEST(HppRanksTest, EachRankDescribesItsOwnBlocksAndAllGetThemAll) {
  auto comms = must(reshard::Comm::local(2));
  on_all(comms, [](reshard::Comm& comm, std::int32_t rank) {
    auto mine = must(reshard::Layout::create(2));
    const auto tensor = must(mine.add_tensor({.name = "w", .dtype = RESHARD_F32, .shape = {4, 4}}));
    const auto buffer = must(mine.add_buffer(rank, "part", 32));
    must(mine.add_block({.rank = rank,
                         .tensor = tensor,
                         .buffer = buffer,
                         .begin = {2 * rank, 0},
                         .end = {2 * rank + 2, 4},
                         .strides_bytes = {16, 4}}));
    const auto all = must(mine.exchange(comm, 10s));
    for (std::int32_t other = 0; other < 2; ++other) {
      const auto blocks = must(all.blocks(other));
      ASSERT_EQ(blocks.size(), 1U);
      EXPECT_EQ(blocks[0].begin[0], 2 * other);
      EXPECT_EQ(blocks[0].strides_bytes[0], 16);
      EXPECT_STREQ(must(all.buffers(other)).at(0).name, "part");
    }
  });
}

TEST(HppRanksTest, AnAllgatherIntoTooLittleIsRefusedBeforeAnythingIsSent) {
  auto comms = must(reshard::Comm::local(2));
  std::byte in[3] = {}, out[5] = {};
  const auto result = comms[0].allgather(in, out, 1s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(result.error().message, HasSubstr("5 bytes; 2 ranks give 3 each"));
}

TEST(HppRanksTest, RanksFindEachOtherByTheCallersAllgather) {
  // One rank: what it gives is what all have.
  int calls = 0;
  const reshard::Allgather alone = [&](std::span<const std::byte> in, std::span<std::byte> out) {
    ++calls;
    EXPECT_EQ(in.size(), out.size());
    std::memcpy(out.data(), in.data(), in.size());
    return true;
  };
  const auto comm = reshard::Comm::from_callback(alone, 0, 1);
  if (!comm && comm.error().status == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << comm.error().message;
  ASSERT_TRUE(comm) << comm.error().message;
  EXPECT_GT(calls, 0);
  const reshard::Allgather broken = [](auto, auto) { return false; };
  EXPECT_FALSE(reshard::Comm::from_callback(broken, 0, 1));
}

TEST(HppRanksTest, AUniqueIdJoinsItsRanks) {
  const auto id = must(reshard::create_unique_id());
  const auto comm = reshard::Comm::from_id(id, 0, 1, {.timeout = 10s});
  if (!comm && comm.error().status == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << comm.error().message;
  ASSERT_TRUE(comm) << comm.error().message;
  EXPECT_EQ(must(comm->size()), 1);
  must(reshard::destroy_unique_id(id));
}

TEST(HppRanksTest, WhoComesAloneWaitsAsLongAsItSays) {
  auto comms = must(reshard::Comm::local(2));
  const auto layouts = must(reshard::Layout::from_spec(kRowsToColumns));
  const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
  std::vector<float> rows(8), columns(8);
  const std::vector<reshard::Buffer> src = {{.ptr = rows.data(), .size_bytes = 32}},
                                     dst = {{.ptr = columns.data(), .size_bytes = 32}};
  const auto binding = reshard::Binding::create(plan, comms[0], {.src = src, .dst = dst, .timeout = 50ms});
  ASSERT_FALSE(binding);
  EXPECT_EQ(binding.error().status, RESHARD_ERR_TIMEOUT);
  auto others = must(reshard::Comm::local(2));
  const auto reload = reshard::Reload::create(plan, others[0], {.src = src, .dst = dst, .timeout = 50ms});
  ASSERT_FALSE(reload);
  EXPECT_EQ(reload.error().status, RESHARD_ERR_TIMEOUT);
  const auto id = must(reshard::create_unique_id());
  const auto comm = reshard::Comm::from_id(id, 0, 2, {.timeout = 50ms});
  ASSERT_FALSE(comm);
  EXPECT_TRUE(comm.error().status == RESHARD_ERR_TIMEOUT || comm.error().status == RESHARD_ERR_NOT_SUPPORTED);
}

TEST(HppRanksTest, AServerTakesLayersOneByOneAndKeepsItsPointers) {
  auto comms = must(reshard::Comm::local(1));
  const auto layouts = must(reshard::Layout::from_spec(kThreeLayers));
  const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst, {.open_groups = 1}));
  std::vector<std::vector<float>> trained(3, std::vector<float>(4)), served(3, std::vector<float>(4));
  std::vector<float> sums(3);
  reshard::ReloadOptions options;
  for (std::size_t l = 0; l < 3; ++l) {
    const auto id = static_cast<std::int64_t>(l);
    options.src.push_back({.id = id, .ptr = trained[l].data(), .size_bytes = 16});
    options.dst.push_back({.id = id, .ptr = served[l].data(), .size_bytes = 16});
    options.outputs.push_back({.group = id, .ptr = &sums[l], .size_bytes = sizeof(float)});
    for (std::size_t i = 0; i < 4; ++i) trained[l][i] = static_cast<float>(10 * l + i);
  }
  auto reload = must(reshard::Reload::create(plan, comms[0], options));
  must(reload.start());
  std::vector<std::int64_t> groups;
  while (const auto layer = must(reload.next(10s))) {
    const auto* values = static_cast<const float*>(layer->buffers[0].ptr);
    *static_cast<float*>(layer->outputs[0].ptr) = values[0] + values[1] + values[2] + values[3];
    groups.push_back(layer->group);
    must(reload.commit(layer->group));
  }
  EXPECT_FALSE(must(reload.poll()));
  must(reload.finish(10s));
  EXPECT_THAT(groups, ElementsAre(0, 1, 2));
  EXPECT_EQ(served, trained);
  EXPECT_THAT(sums, ElementsAre(6, 46, 86));
  EXPECT_EQ(must(reload.state(2)), RESHARD_LAYER_COMPLETE);
  EXPECT_GT(must(reload.stats()).scratch_bytes, 0);
  EXPECT_EQ(must(reload.stats()).binding.num_runs, 1);

  std::vector<float> elsewhere(4), others(3);
  std::vector<reshard::ReloadOutput> outputs = options.outputs;
  for (std::size_t l = 0; l < 3; ++l) outputs[l].ptr = &others[l];
  must(reload.update(must(plan.update(layouts.dst)),
                     {.dst = {{.id = 1, .ptr = elsewhere.data(), .size_bytes = 16}}, .outputs = outputs}));
  EXPECT_EQ(must(reload.state(2)), RESHARD_LAYER_COMPLETE);
  trained[1][0] = 100;
  must(reload.start());
  while (const auto layer = must(reload.next(10s))) {
    *static_cast<float*>(layer->outputs[0].ptr) = static_cast<const float*>(layer->buffers[0].ptr)[0];
    must(reload.commit(layer->group));
  }
  must(reload.finish(10s));
  EXPECT_EQ(elsewhere, trained[1]);
  EXPECT_EQ(served[1][0], 10) << "where it stayed before";
  EXPECT_THAT(others, ElementsAre(0, 100, 20));
  EXPECT_THAT(sums, ElementsAre(6, 46, 86));
  EXPECT_FALSE(reload.update(plan, {.timeout = 0s}));
}

TEST(HppRanksTest, AReloadThatIsGivenUpSaysTheReason) {
  auto comms = must(reshard::Comm::local(1));
  const auto layouts = must(reshard::Layout::from_spec(kThreeLayers));
  const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
  std::vector<float> trained(12), served(12);
  reshard::ReloadOptions options;
  for (std::size_t l = 0; l < 3; ++l) {
    options.src.push_back({.id = static_cast<std::int64_t>(l), .ptr = &trained[4 * l], .size_bytes = 16});
    options.dst.push_back({.id = static_cast<std::int64_t>(l), .ptr = &served[4 * l], .size_bytes = 16});
  }
  auto reload = must(reshard::Reload::create(plan, comms[0], options));
  must(reload.start());
  must(reload.give_up("the moon is full"));
  const auto result = reload.finish(10s);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, RESHARD_ERR_GIVEN_UP);
  EXPECT_THAT(result.error().message, HasSubstr("the moon is full"));
}

}  // namespace
}  // namespace hpp_test
