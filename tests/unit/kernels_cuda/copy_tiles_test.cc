// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The kernel of copies against the host's lists of copies and against a loop over elements, every byte of the
// destinations and of what is around them.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "fiber_launch.h"
#include "kernels/copy_list.h"
#include "random_copies.h"
#include "tests/unit/kernels/reference.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kSeed = 20260917;

// Memory at the alignment that a device has, so that offsets mean there what they mean in the copy.
AlignedBytes aligned(const std::vector<std::byte>& bytes) {
  AlignedBytes memory(static_cast<std::int64_t>(bytes.size()));
  std::memcpy(memory.data(), bytes.data(), bytes.size());
  return memory;
}

void check_batch(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto num_copies = random() % 12;
  std::vector<RandomCopy> copies;
  for (std::uint64_t i = 0; i < num_copies; ++i) {
    copies.push_back(random() % 4 == 0 ? random_scaled_copy(&random) : random_copy(&random));
  }
  std::vector<AlignedBytes> sources;
  std::vector<AlignedBytes> targets;
  CopyList on_device;
  for (const RandomCopy& copy : copies) {
    sources.push_back(aligned(copy.src));
    targets.push_back(aligned(copy.dst));
    on_device.add(copy.bind(sources.back().data(), targets.back().data()));
  }
  TileTable table;
  const TileRange batch = table.add(on_device);
  EXPECT_EQ(batch.num_bytes, on_device.num_bytes());
  run_on_fibers(table, batch, static_cast<std::int64_t>(1 + random() % 5), seed % 2 == 0 ? Bulk::kOff : Bulk::kOn);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    std::vector<std::byte> looped = copies[i].dst;
    reference_copy(copies[i].bind(copies[i].src.data(), looped.data()));
    ASSERT_TRUE(are_same(targets[i].copy(), looped))
        << "copy " << i << " of seed " << seed << " against the loop over elements";
    std::vector<std::byte> listed = copies[i].dst;
    CopyList on_host;
    on_host.add(copies[i].bind(copies[i].src.data(), listed.data()));
    on_host.run();
    ASSERT_TRUE(are_same(targets[i].copy(), listed))
        << "copy " << i << " of seed " << seed << " against the host's list";
  }
}

TEST(CopyTilesTest, RandomBatchesEqualALoopOverElementsAndTheHostsLists) {
  std::printf("seeds from %llu on\n", static_cast<unsigned long long>(kSeed));
  for (std::uint64_t i = 0; i < 150 && !HasFatalFailure(); ++i) check_batch(kSeed + i);
}

// A copy of rows that begin at given offsets from a multiple of 16 on both sides.
void check_rows(std::int64_t src_offset, std::int64_t dst_offset, std::int64_t row_bytes, std::int64_t row_gap,
                bool is_fill) {
  constexpr std::int64_t kRows = 3;
  const std::int64_t pitch = row_bytes + row_gap;
  AlignedBytes src(src_offset + kRows * pitch -
                   row_gap);  // ends with the last row: the sanitizer sees what is read behind
  AlignedBytes dst(64 + dst_offset + kRows * pitch + 64);
  for (std::int64_t i = 0; i < src.size(); ++i) src.data()[i] = static_cast<std::byte>(i * 7 + 1);
  CopyOp op;
  op.src = is_fill ? nullptr : src.data() + src_offset;
  op.dst = dst.data() + 64 + dst_offset;
  op.num_dims = 2;
  op.shape[0] = kRows;
  op.shape[1] = row_bytes;
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = pitch;
  op.src_strides_bytes[1] = op.dst_strides_bytes[1] = 1;
  std::vector<std::byte> expected = dst.copy();
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t i = 0; i < row_bytes; ++i) {
      const auto at = static_cast<std::size_t>(64 + dst_offset + row * pitch + i);
      expected[at] = is_fill ? std::byte{0} : src.data()[src_offset + row * pitch + i];
    }
  }
  TileTable table;
  CopyList list;
  list.add(op);
  run_on_fibers(table, table.add(list), 1);
  ASSERT_TRUE(are_same(dst.copy(), expected))
      << "rows of " << row_bytes << " B, " << row_gap << " B apart, from offset " << src_offset << " to " << dst_offset
      << (is_fill ? ", fill" : "");
}

TEST(CopyTilesTest, RowsOfEveryMisalignmentArriveAndNothingAroundThemIsTouched) {
  for (std::int64_t src_offset = 0; src_offset < 16; ++src_offset) {
    for (std::int64_t dst_offset = 0; dst_offset < 16; ++dst_offset) {
      for (const std::int64_t row_bytes : {1, 15, 17, 31, 47, 61, 62, 64, 129, 512}) {
        check_rows(src_offset, dst_offset, row_bytes, 16 * ((src_offset + dst_offset) % 2) + row_bytes % 2, false);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(CopyTilesTest, FillsOfEveryMisalignmentArriveAndNothingAroundThemIsTouched) {
  for (std::int64_t dst_offset = 0; dst_offset < 16; ++dst_offset) {
    for (std::int64_t row_bytes = 17; row_bytes < 80; row_bytes += row_bytes % 2 == 0 ? 3 : 4) {
      check_rows(0, dst_offset, row_bytes, 5, true);
      if (HasFatalFailure()) return;
    }
  }
}

// Every misalignment of whole elements, and of none: matrices that are turned, to all types that there are.
TEST(CopyTilesTest, TransposesOfEveryAlignmentEqualALoopOverElements) {
  std::mt19937_64 random(kSeed);
  for (const auto& [from, to] : {std::pair{DType::kU8, DType::kU8},
                                 {DType::kBF16, DType::kBF16},
                                 {DType::kF32, DType::kF32},
                                 {DType::kF64, DType::kF64},
                                 {DType::kF32, DType::kBF16},
                                 {DType::kBF16, DType::kF32},
                                 {DType::kF16, DType::kBF16}}) {
    for (std::int64_t offset = 0; offset < 16; ++offset) {
      const auto rows = static_cast<std::int64_t>(40 + random() % 200);
      const auto cols = static_cast<std::int64_t>(40 + random() % 200);
      const std::int64_t src_pitch = (rows * size_bytes(from) + 15) / 16 * 16 + (offset % 3 == 0 ? 0 : offset);
      const std::int64_t dst_pitch = (cols * size_bytes(to) + 15) / 16 * 16 + (offset % 4 == 0 ? 0 : offset);
      AlignedBytes src(16 + src_pitch * cols);
      AlignedBytes dst(16 + dst_pitch * rows + 64);
      for (std::int64_t i = 0; i < src.size(); ++i) src.data()[i] = static_cast<std::byte>(random() & 0x3b);
      CopyOp op{src.data() + offset,           dst.data() + (15 - offset), from, to, 2, {rows, cols},
                {size_bytes(from), src_pitch}, {dst_pitch, size_bytes(to)}};
      if (offset % 2 == 0) op.dst = dst.data();
      AlignedBytes expected(dst.size());
      CopyOp expected_op = op;
      expected_op.dst = expected.data() + (static_cast<std::byte*>(op.dst) - dst.data());
      reference_copy(expected_op);
      TileTable table;
      CopyList list;
      list.add(op);
      run_on_fibers(table, table.add(list), 2);
      ASSERT_TRUE(are_same(dst.copy(), expected.copy()))
          << cols << " x " << rows << " at offset " << offset << ", seed " << kSeed;
    }
  }
}

// Bulk copies of the double are done as late as they may be: a wait that is missing would show. Rows of all numbers of
// pieces and tiles of other kinds between them, so that stages and phases go on from tile to tile.
TEST(CopyTilesTest, LongRowsInBulkArrive) {
  constexpr std::int64_t kPitch = 50000 / 16 * 16;
  constexpr std::int64_t kRows = 5;
  const AlignedBytes src(kPitch * kRows * 8);
  for (std::int64_t i = 0; i < src.size(); ++i) src.data()[i] = static_cast<std::byte>(i * 31 + i / 1000);
  for (const std::int64_t num_blocks : {1, 3}) {
    const AlignedBytes dst(src.size());
    std::vector<std::byte> expected = dst.copy();
    CopyList list;
    std::int64_t at = 0;
    for (const std::int64_t row_bytes : {2048, 1000, 4096, 4112, 16384, 2032, 40000, 48000}) {
      CopyOp op{src.data() + at,    dst.data() + at, DType::kU8, DType::kU8, 2,
                {kRows, row_bytes}, {kPitch, 1},     {kPitch, 1}};
      list.add(op);
      op.dst = expected.data() + at;
      reference_copy(op);
      at += kPitch * kRows;
    }
    TileTable table;
    run_on_fibers(table, table.add(list), num_blocks, Bulk::kOn);
    EXPECT_TRUE(are_same(dst.copy(), expected)) << num_blocks << " blocks";
  }
}

// All 65536 patterns of the short types and, of f32, every exponent with fractions around each rounding, NaNs included.
std::vector<std::byte> all_patterns(DType dtype) {
  std::vector<std::byte> bytes;
  const auto add = [&](auto pattern) {
    const auto* begin = reinterpret_cast<const std::byte*>(&pattern);
    bytes.insert(bytes.end(), begin, begin + sizeof(pattern));
  };
  if (dtype != DType::kF32) {
    for (std::uint32_t i = 0; i < 65536; ++i) add(static_cast<std::uint16_t>(i));
    return bytes;
  }
  for (std::uint32_t exponent = 0; exponent < 512; ++exponent) {
    for (std::uint32_t top = 0; top < 128; top += 9) {
      for (const std::uint32_t low : {0x0U, 0x1U, 0xfffU, 0x1000U, 0x1001U, 0x1fffU, 0x7fffU, 0x8000U, 0x8001U}) {
        add(exponent << 23 | top << 16 | low);
      }
    }
  }
  return bytes;
}

TEST(CopyTilesTest, ConversionsGiveTheHostsBitsForEveryPattern) {
  for (const DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const DType to : {DType::kF32, DType::kBF16, DType::kF16}) {
      const std::vector<std::byte> patterns = all_patterns(from);
      const AlignedBytes src = aligned(patterns);
      const std::int64_t count = src.size() / size_bytes(from);
      const AlignedBytes dst(count * size_bytes(to));
      std::vector<std::byte> expected(static_cast<std::size_t>(dst.size()));
      CopyOp op{src.data(), dst.data(), from, to, 1, {count}, {size_bytes(from)}, {size_bytes(to)}};
      TileTable table;
      CopyList list;
      list.add(op);
      run_on_fibers(table, table.add(list), 4);
      op.dst = expected.data();
      CopyList on_host;
      on_host.add(op);
      on_host.run();
      EXPECT_TRUE(are_same(dst.copy(), expected))
          << "from type " << static_cast<int>(from) << " to " << static_cast<int>(to);
    }
  }
}

}  // namespace
}  // namespace reshard::testing
