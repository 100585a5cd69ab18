// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Random lists of copies against a loop over elements. Destinations are compared with everything around them.
#include "kernels/copy_list.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "kernels_under_test.h"
#include "reference.h"

namespace reshard::testing {
namespace {

constexpr std::int64_t kGuardBytes = 128;
constexpr std::byte kPoison{0xa5};

// Memory for one side of a copy: from the lowest to the highest byte that it touches, and guards around.
struct Side {
  std::vector<std::int64_t> strides;
  std::vector<std::byte> memory;
  std::int64_t base = 0;  // of the element at index zero

  Side(const std::vector<std::int64_t>& shape, std::vector<std::int64_t> with_strides, std::int64_t element_bytes)
      : strides(std::move(with_strides)) {
    std::int64_t low = 0;
    std::int64_t high = element_bytes;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t reach = std::max<std::int64_t>(shape[d] - 1, 0) * strides[d];
      (reach < 0 ? low : high) += reach;
    }
    base = kGuardBytes + *rc::gen::inRange<std::int64_t>(0, 64) - low;
    memory.assign(static_cast<std::size_t>(base + high + kGuardBytes), kPoison);
  }
};

// One random copy with memory of its own.
struct Scenario {
  CopyOp op;
  Side src;
  Side dst;

  // The op on this scenario's source and a given destination.
  CopyOp op_into(std::vector<std::byte>* memory) {
    CopyOp bound = op;
    bound.dst = memory->data() + dst.base;
    if (op.src != nullptr) bound.src = src.memory.data() + src.base;
    return bound;
  }
};

std::vector<std::int64_t> random_shape() {
  const auto num_dims = *rc::gen::inRange<std::size_t>(0, CopyOp::kMaxDims + 1);
  std::vector<std::int64_t> shape(num_dims, 1);
  std::int64_t left = *rc::gen::element<std::int64_t>(64, 4096, 100000);  // elements at most
  for (std::size_t i = 0; i < num_dims; ++i) {
    const std::int64_t kind = *rc::gen::inRange(0, 32);
    const std::int64_t limit = kind < 20 ? std::min<std::int64_t>(left, 6) : left;
    shape[i] = kind == 31 ? 0 : *rc::gen::inRange<std::int64_t>(1, limit + 1);
    left /= std::max<std::int64_t>(shape[i], 1);
  }
  std::shuffle(shape.begin(), shape.end(), std::mt19937(*rc::gen::arbitrary<std::uint32_t>()));
  return shape;
}

std::vector<std::size_t> random_order(std::size_t size) {
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  if (*rc::gen::inRange(0, 3) == 0) {
    std::reverse(order.begin(), order.end());  // row-major, so that dims merge
  } else {
    std::shuffle(order.begin(), order.end(), std::mt19937(*rc::gen::arbitrary<std::uint32_t>()));
  }
  return order;
}

// Strides that do not alias: dims nested in a random order, with gaps of any number of bytes between some.
std::vector<std::int64_t> random_strides(const std::vector<std::int64_t>& shape, std::int64_t element_bytes) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = element_bytes;
  for (const std::size_t d : random_order(shape.size())) {
    if (*rc::gen::inRange(0, 5) == 0) stride += *rc::gen::element<std::int64_t>(1, element_bytes, 64);
    strides[d] = *rc::gen::inRange(0, 8) == 0 ? -stride : stride;
    stride *= std::max<std::int64_t>(shape[d], 1);
  }
  return strides;
}

// Random bytes; NaNs of the float types are made the one quiet NaN, so that conversions have one right result.
void fill_source(Side* side, DType dtype, const std::vector<std::int64_t>& shape) {
  std::mt19937 random(*rc::gen::arbitrary<std::uint32_t>());
  for (std::byte& byte : side->memory) byte = static_cast<std::byte>(random() & 0xff);
  if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16) return;
  // Elements may lie at any byte offset: an exponent that is all ones is broken up element by element.
  std::int64_t num_elements = 1;
  for (const std::int64_t extent : shape) num_elements *= extent;
  for (std::int64_t i = 0; i < num_elements; ++i) {
    std::int64_t rest = i;
    std::int64_t at = side->base;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      at += rest % shape[d] * side->strides[d];
      rest /= shape[d];
    }
    std::byte& top = side->memory[static_cast<std::size_t>(at + size_bytes(dtype) - 1)];
    if ((top & std::byte{0x7c}) == std::byte{0x7c}) top ^= std::byte{0x04};
  }
}

Scenario random_scenario() {
  const std::vector<DType> floats = {DType::kF32, DType::kBF16, DType::kF16};
  const std::vector<DType> any = {DType::kU8, DType::kBF16, DType::kF32, DType::kF64};
  const bool is_float = *rc::gen::arbitrary<bool>();
  const DType src_dtype = is_float ? *rc::gen::elementOf(floats) : *rc::gen::elementOf(any);
  const DType dst_dtype = is_float ? *rc::gen::elementOf(floats) : src_dtype;
  const auto shape = random_shape();
  auto src_strides = random_strides(shape, size_bytes(src_dtype));
  for (std::int64_t& stride : src_strides) {
    if (*rc::gen::inRange(0, 12) == 0) stride = 0;
  }
  Scenario scenario{{},
                    {shape, src_strides, size_bytes(src_dtype)},
                    {shape, random_strides(shape, size_bytes(dst_dtype)), size_bytes(dst_dtype)}};
  fill_source(&scenario.src, src_dtype, shape);
  CopyOp& op = scenario.op;
  op.src = *rc::gen::inRange(0, 8) == 0 ? nullptr : scenario.src.memory.data();
  op.src_dtype = src_dtype;
  op.dst_dtype = dst_dtype;
  op.num_dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), op.shape);
  std::copy(src_strides.begin(), src_strides.end(), op.src_strides_bytes);
  std::copy(scenario.dst.strides.begin(), scenario.dst.strides.end(), op.dst_strides_bytes);
  return scenario;
}

// Runs random lists with `run(list, hint)` and compares every byte of the destinations.
template <typename Run>
void check_lists(const RowKernels& kernels, const Run& run) {
  const bool holds = rc::check([&] {
    const auto num_ops = *rc::gen::inRange<std::size_t>(0, 10);
    std::vector<Scenario> scenarios;
    CopyList list(kernels);
    std::int64_t num_bytes = 0;
    scenarios.reserve(num_ops);
    for (std::size_t i = 0; i < num_ops; ++i) {
      Scenario& scenario = scenarios.emplace_back(random_scenario());
      const CopyOp op = scenario.op_into(&scenario.dst.memory);
      list.add(op);
      num_bytes += std::accumulate(op.shape, op.shape + op.num_dims, size_bytes(op.dst_dtype), std::multiplies<>());
    }
    RC_ASSERT(list.num_bytes() == num_bytes);
    std::vector<std::vector<std::byte>> expected;
    for (Scenario& scenario : scenarios) {
      expected.push_back(scenario.dst.memory);
      reference_copy(scenario.op_into(&expected.back()));
    }
    run(list, *rc::gen::element(StoreHint::kAuto, StoreHint::kCached, StoreHint::kStreaming));
    for (std::size_t i = 0; i < num_ops; ++i) RC_ASSERT(scenarios[i].dst.memory == expected[i]);
  });
  EXPECT_TRUE(holds);
}

class CopyListTest : public KernelsTest {};
RESHARD_INSTANTIATE_KERNELS(CopyListTest);

TEST_P(CopyListTest, RandomListsEqualALoopOverElements) {
  check_lists(kernels(), [](const CopyList& list, StoreHint hint) { list.run(hint); });
}

TEST_P(CopyListTest, RunningInPartsEqualsRunningAtOnce) {
  check_lists(kernels(), [](const CopyList& list, StoreHint hint) {
    const auto budget = *rc::gen::element<std::int64_t>(1, 100, 5000, 40000, 1000000);
    CopyList::Position position;
    std::int64_t num_calls = 1;
    while (!list.run_some(&position, budget, hint)) ++num_calls;
    RC_ASSERT(position.op == list.num_ops());
    RC_ASSERT(num_calls <= list.num_bytes() / budget + 1);  // each but the last wrote its budget
  });
}

TEST_P(CopyListTest, EveryTransposeOfTwoDimsEqualsALoopOverElements) {
  EXPECT_TRUE(rc::check([this] {
    const auto dtype = *rc::gen::element(DType::kU8, DType::kF16, DType::kF32, DType::kI64);
    const auto to = dtype == DType::kF32 ? *rc::gen::element(DType::kF32, DType::kBF16) : dtype;
    const std::vector<std::int64_t> shape = {*rc::gen::inRange<std::int64_t>(1, 400),
                                             *rc::gen::inRange<std::int64_t>(1, 400)};
    Scenario scenario{{},
                      {shape, {size_bytes(dtype), size_bytes(dtype) * shape[0]}, size_bytes(dtype)},
                      {shape, {size_bytes(to) * shape[1], size_bytes(to)}, size_bytes(to)}};
    fill_source(&scenario.src, dtype, shape);
    scenario.op = {scenario.src.memory.data(), nullptr, dtype, to, 2, {}, {}, {}};
    std::copy(shape.begin(), shape.end(), scenario.op.shape);
    std::copy(scenario.src.strides.begin(), scenario.src.strides.end(), scenario.op.src_strides_bytes);
    std::copy(scenario.dst.strides.begin(), scenario.dst.strides.end(), scenario.op.dst_strides_bytes);
    std::vector<std::byte> expected = scenario.dst.memory;
    reference_copy(scenario.op_into(&expected));
    CopyList list(kernels());
    list.add(scenario.op_into(&scenario.dst.memory));
    list.run(*rc::gen::element(StoreHint::kCached, StoreHint::kStreaming));
    RC_ASSERT(scenario.dst.memory == expected);
  }));
}

// An op between two dense buffers.
CopyOp dense_op(const std::vector<std::byte>& src, std::vector<std::byte>* dst) {
  CopyOp op;
  op.src = src.data();
  op.dst = dst->data();
  op.num_dims = 1;
  op.shape[0] = static_cast<std::int64_t>(src.size());
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = 1;
  return op;
}

TEST(CopyListPartsTest, OneLongRunIsSplit) {
  const std::vector<std::byte> src(std::size_t{8} << 20, std::byte{1});
  std::vector<std::byte> dst(src.size());
  CopyList list;
  list.add(dense_op(src, &dst));
  CopyList::Position position;
  EXPECT_FALSE(list.run_some(&position, 1));
  EXPECT_LE(std::count(dst.begin(), dst.end(), std::byte{1}), 1 << 20);
  EXPECT_EQ(dst.front(), std::byte{1});
  EXPECT_TRUE(list.run_some(&position, list.num_bytes()));
  EXPECT_EQ(dst, src);
}

TEST(CopyListPartsTest, ManyShortRowsAreSplit) {
  const std::vector<std::byte> src(std::size_t{8} << 20, std::byte{1});
  std::vector<std::byte> dst(src.size());
  CopyOp op = dense_op(src, &dst);
  op.num_dims = 2;
  op.shape[0] = op.shape[0] / 512;
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = 512;
  op.shape[1] = 100;
  op.src_strides_bytes[1] = op.dst_strides_bytes[1] = 1;
  CopyList list;
  list.add(op);
  CopyList::Position position;
  EXPECT_FALSE(list.run_some(&position, 1));
  EXPECT_LE(std::count(dst.begin(), dst.end(), std::byte{1}), 1 << 20);
}

TEST(CopyListPartsTest, NoBudgetWritesNothing) {
  const std::vector<std::byte> src(100, std::byte{1});
  std::vector<std::byte> dst(src.size());
  CopyList list;
  list.add(dense_op(src, &dst));
  CopyList::Position position;
  EXPECT_FALSE(list.run_some(&position, 0));
  EXPECT_EQ(std::count(dst.begin(), dst.end(), std::byte{0}), 100);
}

TEST(CopyListPartsTest, AnEmptyListIsDone) {
  CopyList list;
  CopyList::Position position;
  EXPECT_TRUE(list.empty());
  EXPECT_TRUE(list.run_some(&position, 0));
  list.run();
}

TEST(StreamingThresholdTest, IsWithinSaneLimits) {
  EXPECT_GE(streaming_threshold_bytes(), std::int64_t{256} << 10);
  EXPECT_LE(streaming_threshold_bytes(), std::int64_t{64} << 20);
}

}  // namespace
}  // namespace reshard::testing
