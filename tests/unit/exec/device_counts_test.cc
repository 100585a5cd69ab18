// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a run asks of the CUDA runtime, counted by the double, and what happens when the runtime refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/doubles/cuda/control.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::AnyOf;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;

constexpr int kOutOfMemory = 2;     // cudaErrorMemoryAllocation
constexpr int kLaunchFailed = 719;  // cudaErrorLaunchFailure

/// `num_rows` rows of a matrix, dealt to two ranks in turn, become columns: each rank has as many pieces as rows.
struct Transpose {
  explicit Transpose(std::int64_t num_rows) {
    const std::int64_t num_columns = 64;
    src = std::make_shared<ModelLayout>(2);
    dst = std::make_shared<ModelLayout>(2);
    Split by_row;
    by_row.rule = Rule::kCyclic;
    by_row.num_parts = 2;
    by_row.block = 1;
    Split halves;
    halves.num_parts = 2;
    place(src.get(), {num_rows, num_columns}, 0, by_row);
    place(dst.get(), {num_rows, num_columns}, 1, halves);
    plan = std::make_shared<const Plan>(*create_plan(src, dst, {1 << 16}));
  }

  static void place(ModelLayout* layout, const std::vector<std::int64_t>& shape, std::size_t dim, const Split& split) {
    Placement placement;
    placement.mesh = *Mesh::create({{"r", 2}}, {0, 1});
    placement.dims.resize(2);
    placement.dims[dim] = {std::make_shared<const DimMap>(*make_dim_map(shape[dim], {split})), {0}};
    placement.buffer = layout->add_buffer("w", DType::kF32);
    EXPECT_TRUE(layout->place(*layout->add_tensor({"w", DType::kF32, shape, 0}), placement).ok());
  }

  std::shared_ptr<ModelLayout> src;
  std::shared_ptr<ModelLayout> dst;
  std::shared_ptr<const Plan> plan;
};

bool meet(Transport* transport) {
  return transport->allgather({}, Deadline(kTimeoutUs)).ok();
}

Status run_once(Driver* driver) {
  RESHARD_TRY(driver->start());
  return driver->finish(Deadline(kTimeoutUs));
}

class DeviceCountsTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { cuda_double_seed(5); }
  void TearDown() override { cuda_double_clear(); }
};

/// What both ranks together ask in a second run.
cuda_double_counters counters_of_second_run(const Transpose& transpose, bool is_mappable) {
  cuda_double_counters counters = {};
  const std::string wrong = run_ranks(2, [&](Transport* transport) -> std::string {
    RankBuffers src(*transpose.src, transport->rank(), transport, is_mappable);
    RankBuffers dst(*transpose.dst, transport->rank(), transport, is_mappable);
    src.fill(3);
    dst.poison();
    auto binding = testing::bind({transpose.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
    if (!binding.ok()) return binding.status().message();
    if (!run_once(&(*binding)->driver()).ok() || !meet(transport)) return "the first run failed\n";
    if (transport->rank() == 0) cuda_double_reset_counters();
    if (!meet(transport) || !run_once(&(*binding)->driver()).ok() || !meet(transport)) return "the second run failed\n";
    if (transport->rank() == 0) counters = cuda_double_count();
    return meet(transport) ? dst.check(3) : "barrier\n";
  });
  EXPECT_EQ(wrong, "");
  return counters;
}

TEST_P(DeviceCountsTest, ASecondRunUploadsAndAllocatesNothing) {
  const cuda_double_counters counters = counters_of_second_run(Transpose(100), GetParam());
  EXPECT_EQ(counters.uploads, 0);
  EXPECT_EQ(counters.downloads, 0);
  EXPECT_EQ(counters.device_copies, 0);
  EXPECT_EQ(counters.fills, 0);
  EXPECT_EQ(counters.allocations, 0);
  EXPECT_GT(counters.launches, 0);
}

TEST_P(DeviceCountsTest, LaunchesDoNotGrowWithThePieces) {
  const cuda_double_counters few = counters_of_second_run(Transpose(20), GetParam());
  const cuda_double_counters many = counters_of_second_run(Transpose(200), GetParam());
  EXPECT_EQ(few.launches, many.launches);
}

INSTANTIATE_TEST_SUITE_P(Memory, DeviceCountsTest, ::testing::Bool(),
                         [](const auto& mapped) { return mapped.param ? "Mapped" : "Staged"; });

class DeviceFaultTest : public DeviceCountsTest {};

/// Binds both ranks while the nth call of a function fails; the codes that they get.
std::array<reshard_status_t, 2> bind_with_fault(const Transpose& transpose, const char* function, std::int64_t nth) {
  std::array<reshard_status_t, 2> codes = {};
  run_ranks(2, [&](Transport* transport) -> std::string {
    RankBuffers src(*transpose.src, transport->rank(), transport, false);
    RankBuffers dst(*transpose.dst, transport->rank(), transport, false);
    meet(transport);
    if (transport->rank() == 0) cuda_double_fail(function, nth, kOutOfMemory);
    meet(transport);
    const auto binding = testing::bind({transpose.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
    codes[static_cast<std::size_t>(transport->rank())] = binding.ok() ? RESHARD_OK : binding.status().code();
    meet(transport);
    if (transport->rank() == 0) cuda_double_clear();
    meet(transport);
    return "";
  });
  return codes;
}

TEST_F(DeviceFaultTest, MemoryThatIsNotThereWhileBindingFailsAllRanksAndLeavesNothing) {
  const Transpose transpose(40);
  bind_with_fault(transpose, "cudaMalloc", 0);  // what is kept for good is there now
  const std::int64_t num_live = cuda_double_num_live();
  std::int64_t num_failed = 0;
  for (const char* function :
       {"cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"}) {
    for (std::int64_t nth = 1; nth <= 3; ++nth) {
      const auto codes = bind_with_fault(transpose, function, nth);
      EXPECT_EQ(codes[0], codes[1]) << function << " " << nth;
      EXPECT_THAT(codes[0], AnyOf(RESHARD_OK, RESHARD_ERR_OUT_OF_MEMORY)) << function << " " << nth;
      num_failed += codes[0] == RESHARD_OK ? 0 : 1;
      EXPECT_EQ(cuda_double_num_live(), num_live) << function << " " << nth;
    }
  }
  EXPECT_GE(num_failed, 8);
}

TEST_F(DeviceFaultTest, ALaunchThatFailsFailsTheRunOnBothRanks) {
  const Transpose transpose(40);
  const std::string wrong = run_ranks(2, [&](Transport* transport) -> std::string {
    RankBuffers src(*transpose.src, transport->rank(), transport, true);
    RankBuffers dst(*transpose.dst, transport->rank(), transport, true);
    src.fill(3);
    dst.poison();
    auto binding = testing::bind({transpose.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
    if (!binding.ok() || !meet(transport)) return "bind\n";
    if (transport->rank() == 0) cuda_double_fail("cudaLaunchKernel", 1, kLaunchFailed);
    if (!meet(transport)) return "barrier\n";
    const Status status = run_once(&(*binding)->driver());
    EXPECT_THAT(status.code(), AnyOf(RESHARD_ERR_TRANSPORT, RESHARD_ERR_ABANDONED)) << status.message();
    if (!meet(transport)) return "barrier\n";
    if (transport->rank() == 0) cuda_double_clear();
    if (!meet(transport)) return "barrier\n";
    if (testing::is_on_streams()) {
      const std::string unlike = testing::try_again_in_vain(&(*binding)->driver(), false);
      return meet(transport) ? unlike : "barrier\n";
    }
    const Status again = run_once(&(*binding)->driver());
    if (!again.ok()) return "again: " + again.message() + "\n";
    return meet(transport) ? dst.check(3) : "barrier\n";
  });
  EXPECT_EQ(wrong, "");
}

}  // namespace
}  // namespace reshard
