// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Folded lists do what the copies do one by one, and are as short as they can be where copies are regular.
#include "kernels/copy_list_builder.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "reference.h"

namespace reshard::testing {
namespace {

constexpr std::int64_t kMemoryBytes = 1 << 16;
constexpr std::int64_t kSlotBytes = 128;

// Memory of one side in slots of which each copy gets one, so that none overlap.
struct Memory {
  std::vector<std::byte> src = std::vector<std::byte>(kMemoryBytes);
  std::vector<std::byte> dst = std::vector<std::byte>(kMemoryBytes, std::byte{0xa5});

  Memory() {
    std::mt19937 random(1);
    for (std::byte& byte : src) byte = static_cast<std::byte>(random() & 0x3f);  // no NaN, whatever the type
  }
};

struct Slots {
  std::int64_t src = 0;
  std::int64_t dst = 0;
};

// A small copy of one of a few forms, from and to slots. Elements of a slot lie in its upper half: strides may be
// negative.
CopyOp small_op(Memory* memory, const Slots& slots, int form) {
  CopyOp op;
  op.src = memory->src.data() + slots.src * kSlotBytes + kSlotBytes / 2;
  op.dst = memory->dst.data() + slots.dst * kSlotBytes + kSlotBytes / 2;
  op.src_dtype = op.dst_dtype = form == 1 ? DType::kF32 : DType::kBF16;
  if (form == 2) op.dst_dtype = DType::kF32;
  if (form == 3) op.src = nullptr;
  op.num_dims = form == 4 ? CopyOp::kMaxDims : 2;
  std::fill(op.shape, op.shape + op.num_dims, 1);
  op.shape[0] = 3;
  op.shape[1] = form == 5 ? 0 : 2;
  op.src_strides_bytes[0] = form == 6 ? -8 : 8;
  op.src_strides_bytes[1] = 4;
  op.dst_strides_bytes[0] = form == 7 ? -16 : 16;
  op.dst_strides_bytes[1] = 4;
  return op;
}

// Runs of any length and step of one form each, so that some fold, some do not, and some only appear to go on.
std::vector<CopyOp> random_ops(Memory* memory) {
  const std::int64_t num_slots = kMemoryBytes / kSlotBytes;
  std::vector<CopyOp> ops;
  std::vector<bool> is_taken(static_cast<std::size_t>(num_slots));
  const auto num_runs = *rc::gen::inRange(0, 30);
  for (int run = 0; run < num_runs; ++run) {
    const auto form = *rc::gen::element(0, 0, 0, 1, 2, 3, 4, 5, 6, 7);
    const auto length = *rc::gen::inRange(1, 9);
    const Slots step{*rc::gen::inRange<std::int64_t>(-2, 3), *rc::gen::inRange<std::int64_t>(-3, 4)};
    Slots at{*rc::gen::inRange<std::int64_t>(32, num_slots - 32), *rc::gen::inRange<std::int64_t>(32, num_slots - 32)};
    for (int i = 0; i < length; ++i, at = {at.src + step.src, at.dst + step.dst}) {
      if (is_taken[static_cast<std::size_t>(at.dst)]) continue;
      is_taken[static_cast<std::size_t>(at.dst)] = true;
      ops.push_back(small_op(memory, at, form));
    }
  }
  return ops;
}

TEST(CopyListBuilderTest, FoldedListsEqualALoopOverElements) {
  EXPECT_TRUE(rc::check([] {
    Memory memory;
    const std::vector<CopyOp> ops = random_ops(&memory);
    CopyListBuilder builder(std::make_shared<CopyTable>());
    for (const CopyOp& op : ops) builder.add(op);
    const CopyList folded = builder.take();
    std::int64_t num_bytes = 0;
    for (const CopyOp& op : ops) num_bytes += num_bytes_of(op);
    RC_ASSERT(folded.num_bytes() == num_bytes);
    RC_ASSERT(folded.num_ops() <= ops.size());
    folded.run(*rc::gen::element(StoreHint::kCached, StoreHint::kStreaming));
    Memory expected;
    for (CopyOp op : ops) {  // the same copies between the other memory's bytes
      const std::ptrdiff_t dst = static_cast<std::byte*>(op.dst) - memory.dst.data();
      op.dst = expected.dst.data() + dst;
      reference_copy(op);
    }
    RC_ASSERT(memory.dst == expected.dst);
  }));
}

std::size_t num_folded(const std::vector<Slots>& places, int form = 0) {
  Memory memory;
  CopyListBuilder builder(std::make_shared<CopyTable>());
  for (const Slots& place : places) builder.add(small_op(&memory, place, form));
  return builder.take().num_ops();
}

TEST(CopyListBuilderTest, ARunOfAnyLengthBecomesOneCopy) {
  EXPECT_EQ(num_folded({{1, 1}, {2, 4}, {3, 7}}), 1U);
  EXPECT_EQ(num_folded({{9, 1}, {8, 2}, {7, 3}, {6, 4}, {5, 5}, {4, 6}}), 1U);
  EXPECT_EQ(num_folded({{1, 1}, {1, 2}, {1, 3}}), 1U);
  EXPECT_EQ(num_folded({{1, 1}, {2, 2}, {3, 3}, {4, 4}}, 3), 1U) << "fills";
}

TEST(CopyListBuilderTest, APairStaysTwoCopiesOfOneShape) {
  EXPECT_EQ(num_folded({{1, 1}, {2, 4}}), 2U);
}

TEST(CopyListBuilderTest, ARunMayBeginWithTheSecondOfAPair) {
  EXPECT_EQ(num_folded({{1, 1}, {7, 20}, {8, 22}, {9, 24}, {10, 26}}), 2U);
}

TEST(CopyListBuilderTest, ACopyOfAllDimsHasNoneLeftToFold) {
  EXPECT_EQ(num_folded({{1, 1}, {2, 2}, {3, 3}}, 4), 3U);
}

TEST(CopyListBuilderTest, AListBeginsAnew) {
  Memory memory;
  CopyListBuilder builder(std::make_shared<CopyTable>());
  for (std::int64_t i = 1; i < 4; ++i) builder.add(small_op(&memory, {i, i}, 0));
  const CopyList first = builder.take();
  builder.add(small_op(&memory, {4, 4}, 0));
  const CopyList second = builder.take();
  EXPECT_EQ(first.num_ops(), 1U);
  EXPECT_EQ(second.num_ops(), 1U);
  EXPECT_EQ(second.num_bytes(), first.num_bytes() / 3);
  EXPECT_TRUE(builder.take().empty());
}

}  // namespace
}  // namespace reshard::testing
