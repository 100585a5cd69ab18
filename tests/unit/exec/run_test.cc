// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/unit/exec/world.h"

namespace {

// Counts the allocations of a thread while it asks for it.
thread_local bool is_counting = false;
std::atomic<int> num_allocations{0};

}  // namespace

// The sanitizers bring operators of their own; there nothing is counted.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// NOLINTBEGIN(misc-new-delete-overloads)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // both sides are replaced here
void* operator new(std::size_t size) {
  if (is_counting) {
    ++num_allocations;
  }
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
// NOLINTEND(misc-new-delete-overloads)
#endif

namespace reshard {
namespace {

using testing::Choices;
using testing::RankBuffers;
using testing::run_ranks;
using testing::Scenario;

constexpr std::int64_t kTimeoutUs = 20'000'000;

struct RunOptions {
  Scenario scenario;
  std::shared_ptr<const Plan> plan;
  bool src_mappable = true;
  bool dst_mappable = true;
  int num_runs = 2;
};

/// Binds, runs and checks on one rank; counts allocations of runs after the first.
std::string run_rank(const RunOptions& options, Transport* transport) {
  RankBuffers src(*options.scenario.src, transport->rank(), transport, options.src_mappable);
  RankBuffers dst(*options.scenario.dst, transport->rank(), transport, options.dst_mappable);
  const BindOptions bind{options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs};
  Result<std::unique_ptr<Binding>> binding = Binding::create(bind);
  if (!binding.ok()) return binding.status().message() + "\n";
  if ((*binding)->volume().staging_bytes > options.plan->options.staging_bytes) return "staging above its budget\n";
  for (int run = 0; run < options.num_runs; ++run) {
    src.fill(run);
    dst.poison();
    is_counting = run > 0;
    Status status = (*binding)->engine().start();
    for (std::size_t g = 0; g < options.plan->groups.size() && status.ok(); ++g) {
      status = (*binding)->engine().wait_group(static_cast<std::int32_t>(g), Deadline(kTimeoutUs));
    }
    if (status.ok()) status = (*binding)->engine().finish(Deadline(kTimeoutUs));
    is_counting = false;
    if (!status.ok()) return status.message() + "\n";
    std::string wrong = dst.check(run);
    if (!wrong.empty()) return fmt::format("run {}: {}", run, wrong);
  }
  // Peers may still read our source buffers until they have finished, too.
  binding->reset();
  const auto barrier = transport->allgather({}, Deadline(kTimeoutUs));
  return barrier.ok() ? "" : barrier.status().message() + "\n";
}

std::string run_world(const RunOptions& options) {
  return run_ranks(options.plan->num_ranks, [&](Transport* transport) { return run_rank(options, transport); });
}

class RunTest : public ::testing::TestWithParam<int> {};

/// All three paths: mapped peers, windows between heap buffers, and ranks that are source and destination.
TEST_P(RunTest, DeliversEveryElementOfRandomLayouts) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    RunOptions options;
    options.src_mappable = choices.pick(2) == 0;
    options.dst_mappable = choices.pick(2) == 0;
    const std::int64_t staging = std::int64_t{8} << choices.pick(16);
    options.scenario = testing::make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(options.scenario.src, options.scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    options.plan = std::make_shared<const Plan>(std::move(plan).take());
    num_allocations = 0;
    RC_ASSERT(run_world(options) == "");
    RC_ASSERT(num_allocations == 0);
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, RunTest, ::testing::Values(1, 2, 3, 8, 11, 16), ::testing::PrintToStringParamName());

/// One tensor cut over ranks 0 and 1 must reach all of rank 2, through windows far larger than a slot of the pool.
RunOptions two_sources(std::int64_t num_elements, std::int64_t staging_bytes, DType src_dtype, DType dst_dtype) {
  auto src = std::make_shared<ModelLayout>(3);
  auto dst = std::make_shared<ModelLayout>(3);
  const std::vector<std::int64_t> shape = {num_elements};
  Split split;
  split.num_parts = 2;
  Placement cut;
  cut.mesh = *Mesh::create({{"r", 2}}, {0, 1});
  cut.dims = {{std::make_shared<const DimMap>(*make_dim_map(num_elements, {split})), {0}}};
  cut.buffer = src->add_buffer("w", src_dtype);
  Placement whole;
  whole.mesh = *Mesh::create({{"r", 1}}, {2});
  whole.dims.resize(1);
  whole.buffer = dst->add_buffer("w", dst_dtype);
  EXPECT_TRUE(src->place(*src->add_tensor({"w", src_dtype, shape, 0}), cut).ok());
  EXPECT_TRUE(dst->place(*dst->add_tensor({"w", dst_dtype, shape, 0}), whole).ok());
  RunOptions options;
  options.scenario = {src, dst};
  options.plan = std::make_shared<const Plan>(*create_plan(src, dst, {staging_bytes}));
  options.src_mappable = false;
  return options;
}

TEST(RunTest, ManyWindowsShareFewSlots) {
  EXPECT_EQ(run_world(two_sources(300'000, 4096, DType::kF32, DType::kBF16)), "");
  EXPECT_EQ(run_world(two_sources(300'000, 4096, DType::kBF16, DType::kF32)), "");
  EXPECT_EQ(run_world(two_sources(301, 8, DType::kF32, DType::kF32)), "");
}

TEST(RunTest, ContiguousWindowsNeedNoStaging) {
  const RunOptions options = two_sources(1 << 20, 64 << 20, DType::kF32, DType::kF32);
  run_ranks(3, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, false);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, false);
    const auto binding = Binding::create({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    EXPECT_TRUE(binding.ok());
    EXPECT_EQ((*binding)->volume().staging_bytes, 0);
    EXPECT_EQ((*binding)->volume().bytes_mapped, 0);
    EXPECT_EQ((*binding)->volume().bytes_sent, transport->rank() < 2 ? 2 << 20 : 0);
    return "";
  });
}

TEST(RunTest, MappedSourcesSendNothing) {
  const RunOptions options = two_sources(1 << 20, 64 << 20, DType::kF32, DType::kBF16);
  run_ranks(3, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, true);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, false);
    const auto binding = Binding::create({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    EXPECT_TRUE(binding.ok());
    EXPECT_EQ((*binding)->volume().bytes_sent, 0);
    EXPECT_EQ((*binding)->volume().bytes_mapped, transport->rank() == 2 ? 2 << 20 : 0);
    return "";
  });
}

}  // namespace
}  // namespace reshard
