// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How the kernels touch memory: sectors of global memory, races in shared memory; and that what looks for them finds
// them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/doubles/cuda/device_shim.h"
// The shim is what the planted faults are written with; it comes first.
#include "deepseek_experts.h"
#include "fiber_launch.h"
#include "figure.h"
#include "observers.h"
#include "random_copies.h"

namespace reshard::testing {
namespace {

constexpr std::uint64_t kAccessSeed = 77;

struct Ratio {
  double loads;           ///< sectors * 32 / bytes, access by access
  double distinct_loads;  ///< each sector once: the others are in the first-level cache
  double stores;
};

Ratio ratios_of(SectorCounter* counter, std::int64_t num_bytes) {
  const auto ratio = [&](std::int64_t sectors) {
    return 32.0 * static_cast<double>(sectors) / static_cast<double>(num_bytes);
  };
  return {ratio(counter->loads().sectors), ratio(counter->loads().distinct), ratio(counter->stores().sectors)};
}

// Rows of one length, `src_pitch` and `dst_pitch` apart, from offsets of the alignment.
Ratio run_rows(std::int64_t row_bytes, std::int64_t src_pitch, std::int64_t dst_pitch, std::int64_t src_offset,
               std::int64_t dst_offset) {
  const std::int64_t num_rows = std::max<std::int64_t>(4, 65536 / row_bytes);
  const AlignedBytes src(num_rows * src_pitch + 64);
  const AlignedBytes dst(num_rows * dst_pitch + 64);
  CopyOp op{src.data() + src_offset, dst.data() + dst_offset, DType::kU8,    DType::kU8, 2,
            {num_rows, row_bytes},   {src_pitch, 1},          {dst_pitch, 1}};
  CopyList list;
  list.add(op);
  TileTable table;
  const TileRange batch = table.add(list);
  SectorCounter counter;
  const Watch watch(&counter);
  run_on_fibers(table, batch, 4);
  return ratios_of(&counter, batch.num_bytes);
}

// Rows lie at multiples of 16 bytes, half of them in the middle of a sector, on both sides.
TEST(SectorsTest, RowsTouchFewSectorsMoreThanTheyFill) {
  for (const std::int64_t row_bytes : {16, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096}) {
    const std::int64_t pitch = row_bytes + (row_bytes / 16 % 2 == 0 ? 16 : 32);
    const Ratio ratio = run_rows(row_bytes, pitch, pitch, 0, 0);
    const std::string key = "sectors.rows_" + std::to_string(row_bytes);
    const std::string text = "sectors * 32 / bytes, rows of " + std::to_string(row_bytes) + " B, ";
    const double goal = row_bytes >= 512 ? 1.05 : row_bytes == 128 ? 1.15 : 0;
    print_figure({key + ".loads", text + "loaded", ratio.loads, "", goal});
    print_figure({key + ".stores", text + "stored", ratio.stores, "", goal});
    const double most = row_bytes >= 512 ? 1.05 : row_bytes >= 128 ? 1.15 : 2.01;
    EXPECT_LE(ratio.loads, most) << row_bytes;
    EXPECT_LE(ratio.stores, most) << row_bytes;
  }
}

void print_misaligned(const std::string& side, std::int64_t row_bytes, std::int64_t offset, const Ratio& ratio) {
  const std::string key = "sectors.rows_" + std::to_string(row_bytes) + "." + side + "_" + std::to_string(offset);
  const std::string text = "rows of " + std::to_string(row_bytes) + " B, " + side + " off by " + std::to_string(offset);
  print_figure({key + ".loads", text + ", loaded", ratio.loads, "", 0});
  print_figure({key + ".distinct_loads", text + ", loaded, each sector once", ratio.distinct_loads, "", 0});
  print_figure({key + ".stores", text + ", stored", ratio.stores, "", 0});
}

// Both aligned vectors of a misaligned one are loaded; the second is in the first-level cache, so that memory sees each
// sector about once.
TEST(SectorsTest, RowsOfEveryMisalignmentAreCounted) {
  for (const std::int64_t row_bytes : {128, 512, 4096}) {
    for (std::int64_t offset = 0; offset < 16; ++offset) {
      const Ratio src = run_rows(row_bytes, row_bytes + 32, row_bytes + 32, offset, 0);
      const Ratio dst = run_rows(row_bytes, row_bytes + 32, row_bytes + 32, 0, offset);
      print_misaligned("source", row_bytes, offset, src);
      print_misaligned("destination", row_bytes, offset, dst);
      // A row that is off fills one sector more, of 4, 16 or 128. Edges are moved apart from the vectors. A warp's 512
      // bytes that begin in the middle of a sector end in the middle of another one, which the next warp shares.
      const double one_more = 1.0 + 32.0 / static_cast<double>(row_bytes);
      const double edges = 64.0 / static_cast<double>(row_bytes);
      const double shared = 1.0 / 16;
      EXPECT_LE(std::max(src.distinct_loads, dst.distinct_loads), one_more + 0.01);
      EXPECT_LE(std::max(src.stores, dst.stores), one_more + edges + shared);
      EXPECT_LE(std::max(src.loads, dst.loads), 2 * (one_more + shared) + edges);
    }
  }
}

// Two experts' down projection, whole: 7168 x 64 both ways.
TEST(SectorsTest, TheTransposeOfExpertsTouchesFewSectorsMoreThanItFills) {
  for (const bool is_down : {false, true}) {
    const std::int64_t rows = is_down ? Experts::kHidden : Experts::kShare;
    const std::int64_t cols = is_down ? Experts::kShare : Experts::kHidden;
    const std::int64_t src_pitch = (is_down ? Experts::kInner : Experts::kHidden) * Experts::kElementBytes;
    const AlignedBytes src(rows * src_pitch);
    const AlignedBytes dst(rows * cols * Experts::kElementBytes);
    CopyOp op{src.data(), dst.data(), DType::kBF16, DType::kBF16, 2, {rows, cols}, {src_pitch, 2}, {2, rows * 2}};
    CopyList list;
    list.add(op);
    TileTable table;
    const TileRange batch = table.add(list);
    SectorCounter counter;
    const Watch watch(&counter);
    run_on_fibers(table, batch, 3);
    const Ratio ratio = ratios_of(&counter, batch.num_bytes);
    const std::string matrix = is_down ? "down" : "gate";
    const std::string text = "sectors * 32 / bytes, transpose of an expert's " + matrix;
    print_figure({"sectors.transpose_" + matrix + ".loads", text + ", loaded", ratio.loads, "", 1.15});
    print_figure({"sectors.transpose_" + matrix + ".stores", text + ", stored", ratio.stores, "", 1.15});
    EXPECT_LE(ratio.loads, 1.15);
    EXPECT_LE(ratio.stores, 1.15);
  }
}

TEST(SharedMemoryTest, NoRaceInRandomBatches) {
  std::mt19937_64 random(kAccessSeed);
  RaceDetector races;
  const Watch watch(&races);
  for (int round = 0; round < 150; ++round) {
    RandomCopy copy = random_copy(&random);
    std::vector<std::byte> src(copy.src.size() + 256);
    std::vector<std::byte> dst(copy.dst.size() + 256);
    CopyList list;
    list.add(copy.bind(src.data(), dst.data()));
    TileTable table;
    run_on_fibers(table, table.add(list), 2);
    ASSERT_TRUE(races.findings().empty()) << races.findings().front() << ", seed " << kAccessSeed << " round " << round;
  }
}

// All element sizes and conversions, of extents that leave parts of chunks and of vectors over.
TEST(SharedMemoryTest, NoRaceInTransposes) {
  RaceDetector races;
  const Watch watch(&races);
  for (const auto& [from, to] : {std::pair{DType::kU8, DType::kU8},
                                 {DType::kBF16, DType::kBF16},
                                 {DType::kF32, DType::kF32},
                                 {DType::kF64, DType::kF64},
                                 {DType::kF32, DType::kBF16},
                                 {DType::kBF16, DType::kF32},
                                 {DType::kF16, DType::kBF16}}) {
    for (const std::int64_t rows : {64, 139, 300}) {
      constexpr std::int64_t kCols = 151;
      const std::int64_t pitch = (rows * size_bytes(from) + 15) / 16 * 16;
      const AlignedBytes src(kCols * pitch);
      const AlignedBytes dst(rows * kCols * size_bytes(to));
      CopyOp op{src.data(),
                dst.data(),
                from,
                to,
                2,
                {rows, kCols},
                {size_bytes(from), pitch},
                {kCols * size_bytes(to), size_bytes(to)}};
      CopyList list;
      list.add(op);
      TileTable table;
      run_on_fibers(table, table.add(list), 1);
      ASSERT_TRUE(races.findings().empty()) << races.findings().front() << ", " << rows << " rows";
    }
  }
  EXPECT_GT(races.num_accesses(), 100000);
}

// Each thread reads what its neighbour wrote.
void exchange(bool has_barrier) {
  alignas(16) static thread_local unsigned char shared[64 * 4];
  const std::uint32_t thread = cuda::thread_index();
  const cuda::SharedAddress base = cuda::shared_address(shared);
  cuda::shared_store<4>(base + 4 * thread, thread);
  if (has_barrier) cuda::block_barrier();
  cuda::shared_load<4>(base + 4 * ((thread + 1) % 64));
}

TEST(SharedMemoryTest, APlantedRaceIsFound) {
  for (const bool has_barrier : {true, false}) {
    RaceDetector races;
    const Watch watch(&races);
    run_block(0, 64, [&] { exchange(has_barrier); });
    EXPECT_EQ(races.findings().empty(), has_barrier);
  }
}

TEST(FibersTest, ABarrierThatSomeThreadsPassByIsFound) {
  EXPECT_THROW(run_block(0, 64,
                         [] {
                           if (cuda::thread_index() != 5) cuda::block_barrier();
                         }),
               std::runtime_error);
}

TEST(FibersTest, AMisalignedAccessIsFound) {
  const AlignedBytes memory(64);
  EXPECT_THROW(run_block(0, 32, [&] { cuda::load_if<4>(true, reinterpret_cast<std::uint64_t>(memory.data()) + 2); }),
               std::runtime_error);
}

TEST(FibersTest, AVoteIsOfTheWarpAlone) {
  std::vector<char> votes(64);
  run_block(0, 64, [&] { votes[cuda::thread_index()] = cuda::any_lane(cuda::thread_index() == 40) ? 1 : 0; });
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(votes[i], i >= 32 ? 1 : 0);
}

}  // namespace
}  // namespace reshard::testing
