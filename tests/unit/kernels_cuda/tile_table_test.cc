// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/tile_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "deepseek_experts.h"
#include "figure.h"
#include "kernels/cuda/params.h"
#include "random_copies.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kTableSeed = 31;

std::int64_t num_bytes_of(const CopyBox& box) {
  return std::int64_t{box.extents[0]} * box.extents[1] * box.extents[2] * std::max(box.src_bytes, box.dst_bytes);
}

TileTable table_of(const std::vector<CopyOp>& ops, std::vector<TileRange>* batches = nullptr) {
  TileTable table;
  CopyList list;
  for (const CopyOp& op : ops) list.add(op);
  const TileRange batch = table.add(list);
  if (batches != nullptr) batches->push_back(batch);
  return table;
}

TEST(TileTableTest, EveryElementOfEveryBoxIsInOneTile) {
  std::mt19937_64 random(kTableSeed);
  for (int round = 0; round < 300; ++round) {
    std::vector<RandomCopy> copies;
    std::vector<CopyOp> ops;
    for (int i = 0; i < 5; ++i) copies.push_back(random_copy(&random));
    for (RandomCopy& copy : copies) ops.push_back(copy.bind(copy.src.data(), copy.dst.data()));
    const TileTable table = table_of(ops);
    std::vector<std::vector<char>> is_covered;
    for (const CopyBox& box : table.boxes()) {
      is_covered.emplace_back(std::size_t{box.extents[0]} * box.extents[1] * box.extents[2]);
    }
    for (const Tile& tile : table.tiles()) {
      for (std::uint32_t i = 0; i < tile.num_boxes(); ++i) {
        const CopyBox& box = table.boxes()[tile.record(i)];
        const std::uint32_t first_row = tile.is_group() ? 0 : tile.first_row;
        const std::uint32_t first_col = tile.is_group() ? 0 : tile.first_col;
        const std::uint32_t rows = tile.is_group() ? box.extents[1] * box.extents[2] : tile.num_rows;
        const std::uint32_t cols = tile.is_group() ? box.extents[0] : tile.num_cols;
        ASSERT_GT(rows * cols, 0U) << "seed " << kTableSeed << " round " << round;
        // In one plane, or whole planes: what the kernel takes for granted.
        ASSERT_TRUE(first_row % box.extents[1] + rows <= box.extents[1] ||
                    (first_row % box.extents[1] == 0 && rows % box.extents[1] == 0 && first_col == 0));
        // Of elements that there are.
        ASSERT_LE(std::size_t{first_row} + rows, std::size_t{box.extents[1]} * box.extents[2]);
        ASSERT_LE(std::size_t{first_col} + cols, std::size_t{box.extents[0]});
        char* const marks = is_covered[tile.record(i)].data();
        bool is_twice = false;
        for (std::uint32_t row = first_row; row < first_row + rows; ++row) {
          for (std::uint32_t col = first_col; col < first_col + cols; ++col) {
            char& mark = marks[std::size_t{row} * box.extents[0] + col];
            is_twice = is_twice || mark != 0;
            mark = 1;
          }
        }
        ASSERT_FALSE(is_twice) << "seed " << kTableSeed << " round " << round;
      }
    }
    for (const auto& marks : is_covered) ASSERT_EQ(std::count(marks.begin(), marks.end(), 0), 0);
  }
}

// A copy of rows with gaps.
CopyOp rows_op(std::int64_t rows, std::int64_t row_bytes, std::int64_t pitch) {
  CopyOp op;
  op.src = reinterpret_cast<const std::byte*>(std::uintptr_t{1} << 40);
  op.dst = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 42);
  op.num_dims = 2;
  op.shape[0] = rows;
  op.shape[1] = row_bytes;
  op.src_strides_bytes[0] = pitch;
  op.dst_strides_bytes[0] = row_bytes;
  op.src_strides_bytes[1] = op.dst_strides_bytes[1] = 1;
  return op;
}

TEST(TileTableTest, TilesOfLargeBoxesHave16To32KiB) {
  std::mt19937_64 random(kTableSeed);
  for (int round = 0; round < 200; ++round) {
    const auto row_bytes = static_cast<std::int64_t>(random() % 300000 + 1);
    const auto rows = static_cast<std::int64_t>(random() % 4000 + 1);
    const TileTable table = table_of({rows_op(rows, row_bytes, row_bytes + 7)});
    const std::int64_t total = rows * row_bytes;
    for (const Tile& tile : table.tiles()) {
      const std::int64_t tile_bytes = std::int64_t{tile.num_rows} * tile.num_cols;
      EXPECT_LE(tile_bytes, TileTable::kMaxTileBytes + 128)
          << rows << " rows of " << row_bytes << ", seed " << kTableSeed;
      // Rows between half a tile and a whole one go one at a time, and are between the two sizes themselves.
      if (total >= 2 * TileTable::kMaxTileBytes) {
        EXPECT_GE(tile_bytes, std::min(row_bytes, TileTable::kMinTileBytes / 2) - 128) << rows << " of " << row_bytes;
      }
    }
    const auto mean = static_cast<double>(total) / static_cast<double>(table.num_tiles());
    if (total >= 2 * TileTable::kMaxTileBytes) {
      EXPECT_GE(mean, 0.98 * static_cast<double>(TileTable::kMinTileBytes)) << rows << " of " << row_bytes;
    }
  }
}

TEST(TileTableTest, ExtentsAndStridesBeyond32BitsAreCutAndKept) {
  constexpr std::int64_t kFar = std::int64_t{5} << 32;
  CopyOp op = rows_op(3, std::int64_t{3} << 31, kFar * 2);  // rows of 6 GiB, 40 GiB apart
  const TileTable table = table_of({op});
  std::int64_t num_bytes = 0;
  for (const CopyBox& box : table.boxes()) num_bytes += num_bytes_of(box);
  EXPECT_EQ(num_bytes, 3 * (std::int64_t{3} << 31));
  for (const CopyBox& box : table.boxes()) EXPECT_LT(box.extents[0], 1U << 31);
  // Two dims whose strides are far: one of them is expanded.
  op = rows_op(4, 64, kFar);
  op.num_dims = 3;
  op.shape[2] = 2;
  op.src_strides_bytes[2] = 7 * kFar;
  op.dst_strides_bytes[2] = 9 * kFar;
  op.dst_strides_bytes[0] = kFar;
  const TileTable far = table_of({op});
  EXPECT_EQ(far.num_boxes(), 2);
  EXPECT_EQ(far.boxes()[1].src - far.boxes()[0].src, static_cast<std::uint64_t>(7 * kFar));
}

TEST(TileTableTest, BlocksDifferByAtMostOneTile) {
  std::mt19937_64 random(kTableSeed);
  for (int round = 0; round < 1000; ++round) {
    const TileRange batch{0, static_cast<std::int64_t>(random() % 3000 + 1), 1};
    const std::int64_t num_blocks = cuda::num_blocks_of(batch, static_cast<std::int64_t>(random() % 600 + 1));
    const cuda::CopyBatch params = cuda::copy_batch({nullptr, 0}, batch, num_blocks);
    const auto mean = static_cast<double>(batch.num_tiles) / static_cast<double>(num_blocks);
    std::uint32_t next = 0;
    for (std::uint32_t block = 0; block < num_blocks; ++block) {
      ASSERT_EQ(params.first_tile(block), next);
      next = params.first_tile(block + 1);
      ASSERT_LE(next - params.first_tile(block), mean + 1);
    }
    ASSERT_EQ(next, batch.num_tiles);
  }
}

double share(const TileTable& table, std::int64_t num_bytes) {
  return static_cast<double>(table.num_bytes()) / static_cast<double>(num_bytes);
}

TEST(TileTableTest, TheTableOfDeepSeeksExpertsIsAtMostTwoPercentOfTheirBytes) {
  for (const bool is_transposed : {false, true}) {
    TileTable table;
    std::int64_t num_bytes = 0;
    std::int64_t num_windows = 0;
    for (const CopyList& list : Experts::windows(is_transposed)) {
      const TileRange batch = table.add(list);
      EXPECT_GT(batch.num_tiles, 0);
      EXPECT_EQ(batch.num_bytes, list.num_bytes());
      num_bytes += batch.num_bytes;
      ++num_windows;
    }
    EXPECT_EQ(num_bytes, Experts::kExperts * Experts::kDstBytes);
    const std::string form = is_transposed ? "transposed" : "rows";
    const std::string text = "DeepSeek-V3's experts, EP16 to TP32, " + form;
    print_figure({"tables.deepseek_" + form, text + ": table / bytes moved", 100 * share(table, num_bytes), " %", 2});
    print_figure({"tables.deepseek_" + form + ".launches", text + ": launches, one a window of 16 MiB",
                  static_cast<double>(num_windows), "", 0});
    EXPECT_LE(share(table, num_bytes), 0.02);
  }
}

// Pieces at addresses without any pattern: each needs a box of its own.
TEST(TileTableTest, TheShareOfThePiecesThatNeedABoxEachIsKnown) {
  std::mt19937_64 random(kTableSeed);
  for (const std::int64_t row_bytes : {16, 64, 256, 1024, 4096, 16384, 65536}) {
    std::vector<CopyOp> ops;
    for (int i = 0; i < 1000; ++i) {
      CopyOp op = rows_op(1, row_bytes, row_bytes);
      op.src = static_cast<const std::byte*>(op.src) + random() % (std::uint64_t{1} << 36) / 16 * 16;
      op.dst = static_cast<std::byte*>(op.dst) + i * row_bytes;
      ops.push_back(op);
    }
    const TileTable table = table_of(ops);
    const std::string size = std::to_string(row_bytes);
    print_figure({"tables.pieces_" + size, "pieces of " + size + " B at random: table / bytes moved",
                  100 * share(table, 1000 * row_bytes), " %", 0});
    // A box each; tiles of at most 64 small boxes, or of their own.
    EXPECT_LE(table.num_bytes(), 1000 * 64 + 16 * std::max<std::int64_t>(1000, 1000 * row_bytes / 16384));
    if (row_bytes >= 4096) {
      EXPECT_LE(share(table, 1000 * row_bytes), 0.02);
    }
  }
}

TEST(TileTableTest, WhatIsWrittenIsBoxesThenTiles) {
  const TileTable table = table_of({rows_op(100, 1000, 1234)});
  std::vector<std::byte> bytes(static_cast<std::size_t>(table.num_bytes()));
  table.write(bytes.data());
  EXPECT_EQ(table.num_bytes(), 64 * table.num_boxes() + 16 * table.num_tiles());
  Tile tile;
  std::memcpy(&tile, bytes.data() + 64 * table.num_boxes(), sizeof(tile));
  EXPECT_EQ(tile.num_cols, 1000);
}

TEST(TileTableTest, AnEmptyListIsAnEmptyBatch) {
  TileTable table;
  EXPECT_TRUE(table.add(CopyList()).empty());
  EXPECT_EQ(table.num_bytes(), 0);
}

}  // namespace
}  // namespace reshard::testing
