// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/normal_op.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "kernels/copy_list.h"
#include "kernels/rows.h"

namespace reshard::testing {
namespace {

// Only addresses matter here; nothing is run.
std::array<std::byte, 64> src_memory;
std::array<std::byte, 64> dst_memory;

struct Dim {
  std::int64_t extent;
  std::int64_t src_stride;
  std::int64_t dst_stride;
};

CanonicalOp canonical_of(const std::vector<Dim>& dims, DType dtype) {
  CopyOp op;
  op.src = &src_memory[32];
  op.dst = &dst_memory[32];
  op.src_dtype = op.dst_dtype = dtype;
  op.num_dims = static_cast<int>(dims.size());
  for (std::size_t d = 0; d < dims.size(); ++d) {
    op.shape[d] = dims[d].extent;
    op.src_strides_bytes[d] = dims[d].src_stride;
    op.dst_strides_bytes[d] = dims[d].dst_stride;
  }
  return canonical(op);
}

NormalOp normal_of(const std::vector<Dim>& dims, DType dtype) {
  return normalize(canonical_of(dims, dtype), generic_row_kernels());
}

TEST(NormalOpTest, ContiguousDimsInAnyOrderBecomeOneRow) {
  const NormalOp op = normal_of({{5, 4, 4}, {1, 999, 999}, {3, 20, 20}, {7, 60, 60}}, DType::kF32);
  EXPECT_EQ(op.kind, NormalOp::Kind::kRows);
  EXPECT_EQ(op.cols.extent, 5 * 3 * 7 * 4);
  EXPECT_EQ(op.rows.extent, 1);
  EXPECT_EQ(op.num_grid_dims, 2);
}

TEST(NormalOpTest, PackingASliceIsRowsOfItsWidth) {
  const NormalOp op = normal_of({{10, 8192, 2560}, {10, 512, 256}, {128, 2, 2}}, DType::kBF16);
  EXPECT_EQ(op.kind, NormalOp::Kind::kRows);
  EXPECT_EQ(op.cols.extent, 256);
  EXPECT_EQ(op.rows.extent, 10);
  EXPECT_EQ(op.num_grid_dims, 3);
}

TEST(NormalOpTest, ATransposeTakesTheColumnsFromTheDestinationAndTheRowsFromTheSource) {
  const NormalOp op = normal_of({{300, 2, 1000}, {4, 100000, 500}, {200, 600, 2}}, DType::kBF16);
  EXPECT_EQ(op.kind, NormalOp::Kind::kElements);
  EXPECT_EQ(op.cols.extent, 200);
  EXPECT_EQ(op.rows.extent, 300);
  EXPECT_EQ(op.move, generic_row_kernels().transpose[1]);
}

TEST(NormalOpTest, ShortRunsAreMovedAsWiderElements) {
  const NormalOp op = normal_of({{100, 16, 8}, {4, 2, 2}}, DType::kF16);
  EXPECT_EQ(op.kind, NormalOp::Kind::kElements);
  EXPECT_EQ(op.dst_element_bytes, 8);
  EXPECT_EQ(op.cols.extent, 100);
}

TEST(CanonicalOpTest, NegativeDestinationStridesAreWalkedFromTheOtherEnd) {
  const CanonicalOp op = canonical_of({{10, -1, -1}}, DType::kU8);
  ASSERT_EQ(op.num_dims, 1);
  EXPECT_EQ(op.dims[0], (CopyDim{10, 1, 1}));
  EXPECT_EQ(op.src, &src_memory[32 - 9]);
  EXPECT_EQ(op.dst, &dst_memory[32 - 9]);
}

TEST(CanonicalOpTest, TheSameCopyHasTheSameDimsHoweverItIsWrittenDown) {
  const CanonicalOp op = canonical_of({{3, 40, 80}, {1, 7, 7}, {5, 4, 4}}, DType::kF32);
  const CanonicalOp other = canonical_of({{5, 4, 4}, {3, 40, 80}}, DType::kF32);
  ASSERT_EQ(op.num_dims, 2);
  ASSERT_EQ(other.num_dims, 2);
  EXPECT_EQ(op.dims[0], other.dims[0]);
  EXPECT_EQ(op.dims[1], other.dims[1]);
}

TEST(NormalOpTest, OneRunIsARunOfBytesThatIsCopiedAsItIs) {
  EXPECT_TRUE(normal_of({{10, 512, 512}, {128, 4, 4}}, DType::kF32).is_one_run());
  EXPECT_TRUE(normal_of({}, DType::kF32).is_one_run());
  EXPECT_FALSE(normal_of({{10, 512, 1024}, {128, 4, 4}}, DType::kF32).is_one_run());
  EXPECT_FALSE(normal_of({{128, 8, 4}}, DType::kF32).is_one_run());
  EXPECT_FALSE(normal_of({{128, -4, 4}}, DType::kF32).is_one_run());
}

}  // namespace
}  // namespace reshard::testing
