// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Layouts through the C boundary: built, asked, written down and read back, merged.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "reshard/reshard.h"
#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::int64_t add_tensor(reshard_layout_t layout, const char* name, const std::vector<std::int64_t>& shape,
                        reshard_dtype_t dtype = RESHARD_F32) {
  reshard_tensor_desc_t desc;
  reshard_tensor_desc_init(&desc);
  desc.name = name;
  desc.dtype = dtype;
  desc.num_dims = static_cast<std::int32_t>(shape.size());
  desc.shape = shape.data();
  std::int64_t tensor = -1;
  EXPECT_EQ(reshard_layout_add_tensor(layout, &desc, &tensor), RESHARD_OK) << reshard_last_error();
  return tensor;
}

/// A tensor's dim 0 over some ranks; the members may be changed before place().
struct RowPlacement {
  RowPlacement(std::int64_t tensor, std::vector<std::int32_t> given) : ranks(std::move(given)) {
    reshard_axis_placement_init(&axis);
    axis.rule = RESHARD_SHARD_CHUNK;
    reshard_placement_desc_init(&desc);
    desc.tensor = tensor;
    desc.num_axes = 1;
  }
  reshard_status_t place(reshard_layout_t layout) {
    size = static_cast<std::int64_t>(ranks.size());
    desc.axis_sizes = &size;
    desc.ranks = ranks.data();
    desc.placements = &axis;
    return reshard_layout_place(layout, &desc);
  }
  std::vector<std::int32_t> ranks;
  std::int64_t size = 0;
  reshard_axis_placement_t axis;
  reshard_placement_desc_t desc;
};

std::vector<reshard_block_t> blocks_of(reshard_layout_t layout, std::int32_t rank) {
  std::int64_t count = -1;
  EXPECT_EQ(reshard_layout_get_blocks(layout, rank, 0, nullptr, &count), RESHARD_OK) << reshard_last_error();
  std::vector<reshard_block_t> blocks(static_cast<std::size_t>(count));
  if (count > 0) reshard_block_init(blocks.data());
  std::int64_t again = -1;
  EXPECT_EQ(reshard_layout_get_blocks(layout, rank, count, blocks.data(), &again), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(again, count);
  return blocks;
}

std::string text_of(reshard_layout_t layout, std::int32_t rank) {
  const char* text = nullptr;
  EXPECT_EQ(reshard_layout_describe_rank(layout, rank, &text), RESHARD_OK) << reshard_last_error();
  return text == nullptr ? "" : text;
}

/// Rank 2 holds the elements 3 to 8 of a tensor of [4, 3] flat, and a block of another one.
void add_own_blocks(reshard_layout_t layout, std::int32_t rank) {
  std::int64_t buffer = -1;
  ASSERT_EQ(reshard_layout_add_buffer(layout, rank, "own", 64, &buffer), RESHARD_OK);
  const std::int64_t flat = add_tensor(layout, "flat", {4, 3});
  ASSERT_EQ(reshard_layout_add_flat_range(layout, rank, flat, 3, 9, buffer, 8), RESHARD_OK) << reshard_last_error();
  reshard_block_t block;
  reshard_block_init(&block);
  block.rank = rank;
  block.tensor = add_tensor(layout, "column", {5});
  block.buffer = buffer;
  block.begin[0] = 1;
  block.end[0] = 3;
  block.offset_bytes = 40;
  block.strides_bytes[0] = 8;
  ASSERT_EQ(reshard_layout_add_block(layout, &block), RESHARD_OK) << reshard_last_error();
}

TEST(LayoutApiTest, PlacementsShareABufferAtOffsets) {
  const LayoutOf layout;
  std::int64_t shared = -1;
  ASSERT_EQ(reshard_layout_add_buffer(layout.handle, -1, "all", 0, &shared), RESHARD_OK) << reshard_last_error();
  RowPlacement first(add_tensor(layout.handle, "a", {4, 2}), {0, 1});
  RowPlacement second(add_tensor(layout.handle, "b", {3}, RESHARD_U8), {1, 2});
  first.desc.buffer = second.desc.buffer = shared;
  second.desc.offset_bytes = 16;
  ASSERT_EQ(first.place(layout.handle), RESHARD_OK) << reshard_last_error();
  ASSERT_EQ(second.place(layout.handle), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(text_of(layout.handle, 1),
            "rank 1 of 4: 1 buffer of 18 bytes, 2 blocks of 2 tensors\n"
            "buffer 0 \"all\", 18 bytes\n"
            "  [0, 16) tensor 0 \"a\" F32 [2:4, 0:2], strides 8 4\n"
            "  [16, 18) tensor 1 \"b\" U8 [0:2], strides 1\n");
  EXPECT_EQ(text_of(layout.handle, 3), "rank 3 of 4: 0 buffers of 0 bytes, 0 blocks of 0 tensors\n");
  std::int64_t count = -1;
  EXPECT_EQ(reshard_layout_num_buffers(layout.handle, 2, &count), RESHARD_OK);
  EXPECT_EQ(count, 1);
}

TEST(LayoutApiTest, ScalesAreSetAskedAndRefused) {
  const LayoutOf layout;
  const std::int64_t weight = add_tensor(layout.handle, "w", {256, 130}, RESHARD_F8_E4M3);
  const std::int64_t scales = add_tensor(layout.handle, "s", {2, 2});
  reshard_scale_kind_t kind = RESHARD_SCALES_TENSOR;
  std::int64_t found = 7;
  ASSERT_EQ(reshard_layout_get_scales(layout.handle, weight, &kind, &found), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(kind, RESHARD_SCALES_NONE);
  EXPECT_EQ(found, -1);
  EXPECT_EQ(reshard_layout_set_scales(layout.handle, weight, RESHARD_SCALES_CHANNEL, scales),
            RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("scales of tensor \"w\": scales channel of the shape [256, 130] have"));
  EXPECT_EQ(reshard_layout_set_scales(layout.handle, weight, static_cast<reshard_scale_kind_t>(7), scales),
            RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("kind is 7; take one of RESHARD_SCALES_BLOCK128"));
  ASSERT_EQ(reshard_layout_set_scales(layout.handle, weight, RESHARD_SCALES_BLOCK128, scales), RESHARD_OK)
      << reshard_last_error();
  ASSERT_EQ(reshard_layout_get_scales(layout.handle, weight, &kind, &found), RESHARD_OK);
  EXPECT_EQ(kind, RESHARD_SCALES_BLOCK128);
  EXPECT_EQ(found, scales);
}

TEST(LayoutApiTest, SharedBuffersAreMovedAndOverlapIsRefused) {
  for (const std::int64_t offset : {48, 47}) {
    const LayoutOf sides[] = {LayoutOf(2), LayoutOf(2)};
    for (const LayoutOf& side : sides) {
      const bool is_dst = &side == &sides[1];
      std::int64_t shared = -1;
      ASSERT_EQ(reshard_layout_add_buffer(side.handle, -1, "all", 0, &shared), RESHARD_OK);
      RowPlacement a(add_tensor(side.handle, "a", {12}), {is_dst ? 1 : 0});
      RowPlacement b(add_tensor(side.handle, "b", {5}, RESHARD_U8), {is_dst ? 1 : 0});
      a.desc.buffer = b.desc.buffer = shared;
      b.desc.offset_bytes = is_dst ? offset : 100;
      ASSERT_EQ(a.place(side.handle), RESHARD_OK) << reshard_last_error();
      ASSERT_EQ(b.place(side.handle), RESHARD_OK) << reshard_last_error();
    }
    reshard_plan_t plan = nullptr;
    EXPECT_EQ(reshard_plan_create(sides[0].handle, sides[1].handle, nullptr, &plan),
              offset == 48 ? RESHARD_OK : RESHARD_ERR_INVALID_ARGUMENT);
    if (plan == nullptr) {
      EXPECT_THAT(reshard_last_error(), HasSubstr("\"a\" takes bytes [0, 48) and tensor \"b\""));
    }
    reshard_plan_destroy(plan);
  }
}

TEST(LayoutApiTest, ASharedBufferIsFilledByARun) {
  Sides sides(R"({"version": 1, "ranks": 2, "tensors": [
    {"name": "a", "shape": [6], "group": 0,
     "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
     "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"], "buffer": "all"}},
    {"name": "b", "shape": [3], "group": 1,
     "src": [{"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
             {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"]}],
     "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"], "buffer": "all",
             "offset": 32}}]})");
  ASSERT_NE(sides.src, nullptr) << reshard_last_error();
  const PlanOf plan(sides, nullptr);
  run_on_local_comms(2, [&](reshard_comm_t comm, std::int32_t rank) {
    std::vector<float> a = {1, 2, 3, 4, 5, 6};
    std::vector<float> b = {7, 8, 9};
    std::vector<float> all(11, -1);
    std::vector<reshard_buffer_t> src(rank == 0 ? 2 : 1);
    for (reshard_buffer_t& buffer : src) reshard_buffer_init(&buffer);
    src.back().id = rank == 0 ? 1 : 2;  // "b" has a buffer for each of its placements
    src.back().ptr = b.data();
    src.back().size_bytes = 12;
    if (rank == 0) {
      src[0].ptr = a.data();
      src[0].size_bytes = 24;
    }
    reshard_buffer_t into;
    reshard_buffer_init(&into);
    into.ptr = all.data();
    into.size_bytes = 44;
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan.handle;
    desc.comm = comm;
    desc.num_src_buffers = std::ssize(src);
    desc.src_buffers = src.data();
    desc.num_dst_buffers = rank;
    desc.dst_buffers = &into;
    reshard_binding_t binding = nullptr;
    ASSERT_EQ(reshard_binding_create(&desc, &binding), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK) << reshard_last_error();
    std::int32_t is_complete = 0;
    std::int64_t groups[2] = {-1, -1};
    std::int64_t num_groups = 0;
    while (is_complete == 0) {
      ASSERT_EQ(reshard_binding_poll(binding, 2, groups, &num_groups, &is_complete), RESHARD_OK)
          << reshard_last_error();
    }
    EXPECT_EQ(num_groups, 2);
    EXPECT_THAT(groups, ElementsAre(0, 1));
    EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK) << reshard_last_error();
    reshard_binding_destroy(binding);
    if (rank == 1) {
      EXPECT_THAT(all, ElementsAre(1, 2, 3, 4, 5, 6, -1, -1, 7, 8, 9));
    }
  });
}

TEST(LayoutApiTest, ARefusedPlacementNamesItsTensor) {
  const LayoutOf layout;
  const std::int64_t tensor = add_tensor(layout.handle, "the one", {8});
  std::int64_t own = -1;
  ASSERT_EQ(reshard_layout_add_buffer(layout.handle, 0, "own", 32, &own), RESHARD_OK);
  const auto refused = [&](RowPlacement given, const char* part) {
    EXPECT_EQ(given.place(layout.handle), RESHARD_ERR_INVALID_ARGUMENT) << part;
    EXPECT_THAT(reshard_last_error(), HasSubstr("tensor \"the one\""));
    EXPECT_THAT(reshard_last_error(), HasSubstr(part));
  };
  RowPlacement given(tensor, {0, 1});
  const std::int64_t cuts[] = {0, 9, 8};
  given.axis.rule = RESHARD_SHARD_CUTS;
  given.axis.cuts = cuts;
  given.axis.num_cuts = 3;
  refused(given, "cuts [0, 9, 8]");
  refused(RowPlacement(tensor, {0, 4}), "rank 4");
  refused(RowPlacement(tensor, {0, -1}), "rank -1");
  refused(RowPlacement(tensor, {3, 3}), "rank 3 is repeated");
  refused(RowPlacement(tensor, {0, 1, 2, 3, 0}), "larger than the world of 4 ranks");
  given = RowPlacement(tensor, {0, 1, 2});
  given.axis.rule = RESHARD_SHARD_EVEN;
  refused(given, "evenly");
  given = RowPlacement(tensor, {0, 1});
  given.axis.dim = 1;
  refused(given, "dim 1");
  given = RowPlacement(tensor, {0, 1});
  given.desc.offset_bytes = 4;
  refused(given, "offset_bytes is 4");
  for (const std::int64_t buffer : {own, std::int64_t{7}, std::int64_t{-2}}) {
    given.desc.buffer = buffer;
    refused(given, "not one for placements");
  }
  std::int64_t shared = -1;
  ASSERT_EQ(reshard_layout_add_buffer(layout.handle, -1, "all", 0, &shared), RESHARD_OK);
  given.desc.buffer = shared;
  given.desc.offset_bytes = -4;
  refused(given, "offset -4");
  EXPECT_EQ(reshard_layout_add_buffer(layout.handle, -1, "all", 8, &shared), RESHARD_ERR_INVALID_ARGUMENT);
  std::int64_t count = -1;
  EXPECT_EQ(reshard_layout_num_buffers(layout.handle, 1, &count), RESHARD_OK);
  EXPECT_EQ(count, 0);
}

TEST(LayoutApiTest, WorldsBeyondAnyClusterAreRefusedAtOnce) {
  reshard_layout_t layout = nullptr;
  for (const std::int32_t count : {0, -1, 262145, INT32_MAX}) {
    EXPECT_EQ(reshard_layout_create(count, &layout), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr(std::to_string(count)));
  }
  reshard_layout_t other = nullptr;
  EXPECT_EQ(reshard_layout_create_from_spec(R"({"version": 1, "ranks": 1073741824, "tensors": []})", &layout, &other),
            RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("ranks: a world of 1073741824 ranks; give 1 to 262144"));
}

TEST(LayoutApiTest, TensorsAreFoundByName) {
  const LayoutOf layout;
  const std::int64_t a = add_tensor(layout.handle, "a", {1});
  const std::int64_t b = add_tensor(layout.handle, "b", {1});
  std::int64_t found = 7;
  EXPECT_EQ(reshard_layout_find_tensor(layout.handle, "b", &found), RESHARD_OK);
  EXPECT_EQ(found, b);
  EXPECT_EQ(reshard_layout_find_tensor(layout.handle, "a", &found), RESHARD_OK);
  EXPECT_EQ(found, a);
  EXPECT_EQ(reshard_layout_find_tensor(layout.handle, "c", &found), RESHARD_OK);
  EXPECT_EQ(found, -1);
  EXPECT_EQ(reshard_layout_find_tensor(layout.handle, nullptr, &found), RESHARD_ERR_INVALID_ARGUMENT);
}

/// What a block says: between its members lie bytes of no meaning.
auto members_of(const reshard_block_t& b) {
  const auto dims = [](const std::int64_t(&of)[RESHARD_MAX_DIMS]) {
    return std::vector<std::int64_t>(of, of + RESHARD_MAX_DIMS);
  };
  return std::tuple{b.struct_size,
                    b.version,
                    b.kind,
                    b.rank,
                    b.tensor,
                    b.buffer,
                    dims(b.begin),
                    dims(b.end),
                    b.offset_bytes,
                    dims(b.local_begin),
                    dims(b.strides_bytes)};
}

TEST(LayoutApiTest, AllBlocksOfARankComeInOneCall) {
  const LayoutOf layout;
  add_own_blocks(layout.handle, 2);
  const std::vector<reshard_block_t> blocks = blocks_of(layout.handle, 2);
  std::size_t next = 0;
  for (const std::int64_t tensor : {0, 1}) {
    std::int64_t count = -1;
    ASSERT_EQ(reshard_layout_num_blocks(layout.handle, 2, tensor, &count), RESHARD_OK);
    for (std::int64_t i = 0; i < count; ++i, ++next) {
      reshard_block_t block;
      reshard_block_init(&block);
      ASSERT_EQ(reshard_layout_get_block(layout.handle, 2, tensor, i, &block), RESHARD_OK);
      ASSERT_LT(next, blocks.size());
      EXPECT_TRUE(members_of(block) == members_of(blocks[next])) << "block " << next;
    }
  }
  EXPECT_EQ(next, blocks.size());
  EXPECT_TRUE(blocks_of(layout.handle, 0).empty());
  std::vector<reshard_block_t> few(1);
  std::int64_t count = 7;
  EXPECT_EQ(reshard_layout_get_blocks(layout.handle, 2, 1, few.data(), &count), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("reshard_block_t"));
  reshard_block_init(few.data());
  EXPECT_EQ(reshard_layout_get_blocks(layout.handle, 2, 1, few.data(), &count), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("rank 2 has 2 blocks and the array holds 1"));
  EXPECT_EQ(reshard_layout_get_blocks(layout.handle, 2, -1, few.data(), &count), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_layout_get_blocks(layout.handle, 4, 1, few.data(), &count), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(count, 7);
}

TEST(LayoutApiTest, LocalShapesAndWorlds) {
  const LayoutOf layout(5);
  add_own_blocks(layout.handle, 3);
  std::int32_t num_ranks = -1;
  EXPECT_EQ(reshard_layout_num_ranks(layout.handle, &num_ranks), RESHARD_OK);
  EXPECT_EQ(num_ranks, 5);
  std::int32_t is_present = -1;
  std::int64_t shape[RESHARD_MAX_DIMS] = {};
  EXPECT_EQ(reshard_layout_get_local_shape(layout.handle, 3, 0, &is_present, shape), RESHARD_OK);
  EXPECT_EQ(is_present, 1);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[1], 3);
  const std::int32_t lost[] = {3};
  EXPECT_EQ(reshard_layout_remove_ranks(layout.handle, 1, lost), RESHARD_OK);
  EXPECT_EQ(reshard_layout_get_local_shape(layout.handle, 3, 0, &is_present, shape), RESHARD_OK);
  EXPECT_EQ(is_present, 0);
  const std::int32_t foreign[] = {5};
  EXPECT_EQ(reshard_layout_remove_ranks(layout.handle, 1, foreign), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("rank 5"));
}

std::uint64_t plan_hash(reshard_layout_t src, reshard_layout_t dst) {
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(src, dst, nullptr, &plan), RESHARD_OK) << reshard_last_error();
  reshard_plan_info_t info;
  reshard_plan_info_init(&info);
  EXPECT_EQ(reshard_plan_get_info(plan, &info), RESHARD_OK);
  reshard_plan_destroy(plan);
  return info.hash;
}

std::string bytes_of(reshard_layout_t layout) {
  const void* bytes = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(reshard_layout_serialize(layout, &bytes, &size), RESHARD_OK) << reshard_last_error();
  return {static_cast<const char*>(bytes), size};
}

TEST(LayoutApiTest, PlansOfLayoutsReadBackAreThoseOfTheOriginals) {
  const Sides sides(replicating_spec(10, 6));
  reshard_layout_t again[2] = {};
  for (const bool is_dst : {false, true}) {
    const std::string bytes = bytes_of(is_dst ? sides.dst : sides.src);
    ASSERT_EQ(reshard_layout_deserialize(bytes.data(), bytes.size(), &again[is_dst ? 1 : 0]), RESHARD_OK)
        << reshard_last_error();
    EXPECT_EQ(bytes_of(again[is_dst ? 1 : 0]), bytes);
  }
  EXPECT_EQ(plan_hash(again[0], again[1]), plan_hash(sides.src, sides.dst));
  for (reshard_layout_t layout : again) reshard_layout_destroy(layout);
}

TEST(LayoutApiTest, BytesAndTextsFollowTheLayout) {
  const LayoutOf layout;
  const std::string before = bytes_of(layout.handle);
  EXPECT_EQ(bytes_of(layout.handle), before);
  EXPECT_THAT(text_of(layout.handle, 2), HasSubstr("0 blocks"));
  add_own_blocks(layout.handle, 2);
  EXPECT_NE(bytes_of(layout.handle), before);
  EXPECT_THAT(text_of(layout.handle, 2), HasSubstr("2 blocks"));
}

TEST(LayoutApiTest, BytesThatAreNoLayoutAreRefused) {
  reshard_layout_t layout = reinterpret_cast<reshard_layout_t>(&layout);
  EXPECT_EQ(reshard_layout_deserialize("hello, world, hello", 19, &layout), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(layout, nullptr);
  EXPECT_EQ(reshard_layout_deserialize(nullptr, 19, &layout), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_layout_deserialize("", 0, &layout), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(LayoutApiTest, RanksThatKnowOnlyTheirOwnGetTheWholeLayout) {
  run_on_local_comms(3, [&](reshard_comm_t comm, std::int32_t rank) {
    const LayoutOf local(3);
    if (rank != 1) add_own_blocks(local.handle, rank);
    reshard_layout_t merged = nullptr;
    ASSERT_EQ(reshard_layout_exchange(local.handle, comm, kTimeoutUs, &merged), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(blocks_of(merged, 0).size(), 2U);
    EXPECT_EQ(blocks_of(merged, 1).size(), 0U);
    EXPECT_EQ(blocks_of(merged, 2).size(), 2U);
    reshard_layout_destroy(merged);
    // What one rank describes wrongly is refused on all.
    if (rank == 1) add_own_blocks(local.handle, 2);
    EXPECT_EQ(reshard_layout_exchange(local.handle, comm, kTimeoutUs, &merged), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("on rank 1: buffer \"own\" is on rank 2"));
    EXPECT_EQ(merged, nullptr);
  });
}

TEST(LayoutApiTest, ATensorDescribedDifferentlyIsNamedOnEveryRank) {
  run_on_local_comms(3, [&](reshard_comm_t comm, std::int32_t rank) {
    const LayoutOf local(3);
    add_tensor(local.handle, "w", {rank == 2 ? 7 : 6});
    reshard_layout_t merged = nullptr;
    EXPECT_EQ(reshard_layout_exchange(local.handle, comm, kTimeoutUs, &merged), RESHARD_ERR_LAYOUT_MISMATCH);
    EXPECT_THAT(reshard_last_error(), HasSubstr("rank 2 describes tensor \"w\""));
  });
}

}  // namespace
}  // namespace reshard::testing
