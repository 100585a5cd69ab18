// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/fill.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "perf/data/dump.h"
#include "perf/data/formula.h"
#include "perf/data/safetensors.h"
#include "perf/engine/error.h"
#include "perf/engine/patterns.h"

namespace reshard::perf {
namespace {

constexpr const char* kSpec = R"({"version": 1, "ranks": 3, "tensors": [
  {"name": "w.0", "shape": [5, 3],
   "src": {"dtype": "U16", "mesh": {"axes": [["a", 1]], "ranks": [0]}, "placements": ["replicate"]},
   "dst": {"dtype": "U16", "mesh": {"axes": [["a", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}],
           "order": [1, 0], "pad_to": [4, 3]}},
  {"name": "b", "shape": [],
   "src": {"dtype": "F32", "mesh": {"axes": [["a", 1]], "ranks": [0]}, "placements": ["replicate"]},
   "dst": {"dtype": "BF16", "mesh": {"axes": [["a", 1]], "ranks": [1]}, "placements": ["replicate"]}},
  {"name": "w.1", "shape": [2],
   "src": {"dtype": "U8", "mesh": {"axes": [["a", 1]], "ranks": [0]}, "placements": ["replicate"]},
   "dst": {"dtype": "U8", "mesh": {"axes": [["a", 3]], "ranks": [0, 1, 2]}, "placements": [{"shard": 0}]}}]})";

Job make_test_job() {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  check(reshard_layout_create_from_spec(kSpec, &src, &dst), "building the layouts of the test");
  return {Layout(src), Layout(dst), nullptr, {}, 3, 0};
}

/// A destination as a right transfer would leave it.
class Fill : public ::testing::Test {
 protected:
  /// Writes what belongs into the blocks, as fill_source would do if the destination were a source.
  void fill_destination(Arena* arena, std::int32_t rank) {
    std::vector<TensorPair> as_source = tensors_;
    for (TensorPair& tensor : as_source) {
      tensor.src_index = tensor.dst_index;
      std::swap(tensor.src_dtype, tensor.dst_dtype);
    }
    fill_source({job_.dst.get(), rank, &values_}, as_source, *arena);
  }

  std::vector<CheckCount> check_rank(const Arena& arena, std::int32_t rank) {
    return check_destination({job_.dst.get(), rank, &values_}, tensors_, arena);
  }

  Job job_ = make_test_job();
  std::vector<TensorPair> tensors_ = pair_tensors(job_);
  FormulaSource values_;
};

TEST_F(Fill, TheSourceHoldsTheFormula) {
  const Arena arena(nullptr, job_.src.get(), 0, {.use_heap = true});
  fill_source({job_.src.get(), 0, &values_}, tensors_, arena);
  const reshard_buffer_t w = arena.binding_buffers()[0];
  ASSERT_EQ(w.size_bytes, 30u);
  for (std::uint64_t i = 0; i < 15; ++i) {
    std::uint16_t found = 0;
    std::memcpy(&found, static_cast<const std::byte*>(w.ptr) + 2 * i, 2);
    EXPECT_EQ(found, splitmix64(fnv1a64("w.0") + i) & 0xffff) << "element " << i;
  }
  EXPECT_TRUE(arena.damaged_guards().empty());
}

TEST_F(Fill, APoisonedDestinationIsWrongEverywhere) {
  const Arena arena(nullptr, job_.dst.get(), 1, {.use_heap = true});
  const auto counts = check_rank(arena, 1);
  EXPECT_EQ(counts[0].num_elements, 12);  // two rows of three, and padding
  EXPECT_EQ(counts[0].num_wrong, 12);
  EXPECT_EQ(counts[1].num_wrong, 1);
  EXPECT_EQ(counts[2].num_wrong, 1);
}

TEST_F(Fill, EveryWrongElementIsCountedOnce) {
  Arena arena(nullptr, job_.dst.get(), 1, {.use_heap = true});
  fill_destination(&arena, 1);
  const reshard_buffer_t w = arena.binding_buffers()[0];
  ASSERT_EQ(w.size_bytes, 24u);
  auto* memory = static_cast<std::byte*>(w.ptr);
  EXPECT_EQ(check_rank(arena, 1)[0].num_wrong, 6) << "the padding still holds the poison";
  for (std::size_t column = 0; column < 3; ++column) std::memset(memory + 8 * column + 4, 0, 4);  // rows 2 and 3
  for (const CheckCount& count : check_rank(arena, 1)) EXPECT_EQ(count.num_wrong, 0);
  memory[0] ^= std::byte{1};
  memory[9] ^= std::byte{0x80};
  memory[23] = std::byte{1};
  EXPECT_EQ(check_rank(arena, 1)[0].num_wrong, 3);
}

TEST_F(Fill, AByteBesideABufferIsADamagedGuard) {
  const Arena arena(nullptr, job_.dst.get(), 1, {.use_heap = true});
  EXPECT_TRUE(arena.damaged_guards().empty());
  const reshard_buffer_t w = arena.binding_buffers()[0];
  static_cast<std::byte*>(w.ptr)[-1] = std::byte{0};
  EXPECT_EQ(arena.damaged_guards().size(), 1u);
  static_cast<std::byte*>(w.ptr)[w.size_bytes] = std::byte{0};
  EXPECT_EQ(arena.damaged_guards().size(), 2u);
}

TEST_F(Fill, ADumpHasLocalShapesInTheTensorsOwnOrder) {
  const std::string folder = ::testing::TempDir() + "reshard_dump_" + std::to_string(getpid());
  for (const std::int32_t rank : {1, 2}) {
    Arena arena(nullptr, job_.dst.get(), rank, {.use_heap = true});
    fill_destination(&arena, rank);
    dump_destination(folder, job_.dst.get(), rank, tensors_, arena);
  }
  const SafetensorsFile first(folder + "/rank00001.safetensors");
  const auto* w = first.find("w.0");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->tensor.shape, (std::vector<std::int64_t>{4, 3}));
  for (std::size_t i = 0; i < 12; ++i) {
    std::uint16_t found = 0;
    std::memcpy(&found, w->data + 2 * i, 2);
    EXPECT_EQ(found, i < 6 ? splitmix64(fnv1a64("w.0") + 9 + i) & 0xffff : 0xA5A5) << "element " << i;
  }
  EXPECT_EQ(first.find("b")->tensor.dtype, RESHARD_BF16);
  const SafetensorsFile second(folder + "/rank00002.safetensors");
  EXPECT_EQ(second.entries().size(), 1u);
  EXPECT_EQ(second.find("w.1")->tensor.shape, (std::vector<std::int64_t>{0})) << "an empty shard is there";
  std::filesystem::remove_all(folder);
}

TEST_F(Fill, APatternIsATransferOfItsOwnInTheSameMemory) {
  const std::vector<Pattern> patterns = group_by_pattern(tensors_);
  ASSERT_EQ(patterns.size(), 2u);
  EXPECT_EQ(patterns[0].name, "w.*");
  EXPECT_EQ(patterns[0].tensors, (std::vector<std::size_t>{0, 2}));
  const Arena arena(nullptr, job_.dst.get(), 1, {.use_heap = true});
  const SubLayout sub = extract_tensors(job_.dst.get(), {0, 2}, 1, arena);
  ASSERT_EQ(sub.buffers.size(), 2u);
  std::int64_t num_tensors = 0;
  check(reshard_layout_num_tensors(sub.layout.get(), &num_tensors), "counting");
  EXPECT_EQ(num_tensors, 2);
  for (const reshard_buffer_t& buffer : sub.buffers) {
    EXPECT_TRUE(buffer.ptr == arena.binding_buffers()[0].ptr || buffer.ptr == arena.binding_buffers()[2].ptr);
  }
  const Arena src_arena(nullptr, job_.src.get(), 1, {.use_heap = true});
  const SubLayout src = extract_tensors(job_.src.get(), {0, 2}, 1, src_arena);
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  EXPECT_NE(make_plan(src.layout.get(), sub.layout.get(), options), nullptr);
}

}  // namespace
}  // namespace reshard::perf
