// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;
using testing::run_world;
using testing::RunOptions;

class RunTest : public ::testing::TestWithParam<int> {};

/// All three paths: mapped peers, windows between heap buffers, and ranks that are source and destination.
TEST_P(RunTest, DeliversEveryElementOfRandomLayouts) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    RunOptions options;
    options.src_mappable = choices.pick(2) == 0;
    options.dst_mappable = choices.pick(2) == 0;
    options.late_seed = choices.pick(2) == 0 ? 0 : 1 + static_cast<std::uint64_t>(choices.pick(1000));
    const std::int64_t staging = std::int64_t{8} << choices.pick(16);
    options.scenario = testing::make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(options.scenario.src, options.scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    options.plan = std::make_shared<const Plan>(std::move(plan).take());
    RC_ASSERT(run_world(options) == "");
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
  EXPECT_EQ(run_world(two_sources(15'000, 4096, DType::kF32, DType::kBF16)), "");
  EXPECT_EQ(run_world(two_sources(15'000, 4096, DType::kBF16, DType::kF32)), "");
  EXPECT_EQ(run_world(two_sources(301, 8, DType::kF32, DType::kF32)), "");
}

TEST(RunTest, ContiguousWindowsNeedNoStaging) {
  if (testing::is_on_device()) GTEST_SKIP() << "messages between threads go through memory of the host";
  const RunOptions options = two_sources(1 << 20, 64 << 20, DType::kF32, DType::kF32);
  run_ranks(3, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, false);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, false);
    const auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
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
    const auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    EXPECT_TRUE(binding.ok());
    EXPECT_EQ((*binding)->volume().bytes_sent, 0);
    EXPECT_EQ((*binding)->volume().bytes_mapped, transport->rank() == 2 ? 2 << 20 : 0);
    return "";
  });
}

}  // namespace
}  // namespace reshard
