// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs that a graph holds.
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;

/// Half of the rows of a matrix on each of two ranks become half of its columns.
struct RowsToColumns {
  RowsToColumns() {
    for (const bool is_source : {true, false}) {
      auto layout = std::make_shared<ModelLayout>(2);
      Split split;
      split.num_parts = 2;
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 2}}, {0, 1});
      placement.dims.resize(2);
      placement.dims[is_source ? 0 : 1] = {std::make_shared<const DimMap>(*make_dim_map(64, {split})), {0}};
      placement.buffer = layout->add_buffer("w", DType::kF32);
      EXPECT_TRUE(layout->place(*layout->add_tensor({"w", DType::kF32, {64, 64}, 0}), placement).ok());
      (is_source ? src : dst) = std::move(layout);
    }
    plan = std::make_shared<const Plan>(*create_plan(src, dst, {1 << 12}));
  }
  std::shared_ptr<ModelLayout> src;
  std::shared_ptr<ModelLayout> dst;
  std::shared_ptr<const Plan> plan;
};

/// Captures a run on a rank and launches it some times; what is wrong.
std::string launch_graph(const RowsToColumns& given, Transport* transport, bool is_mappable) {
  RankBuffers src(*given.src, transport->rank(), transport, is_mappable);
  RankBuffers dst(*given.dst, transport->rank(), transport, is_mappable);
  BindOptions options{given.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs};
  options.nccl.emplace().comm.is_capturable = true;
  auto binding = testing::bind(options);
  if (!binding.ok()) return binding.status().message();
  Driver& driver = (*binding)->driver();
  auto* const stream = static_cast<cudaStream_t>(testing::callers_stream());
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t launchable = nullptr;
  cudaSetDevice(transport->rank());
  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  const Status captured = driver.start(stream);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  if (!captured.ok()) return captured.message();
  EXPECT_EQ(cudaGraphInstantiate(&launchable, graph, 0), cudaSuccess);
  std::string wrong;
  for (int run = 1; run <= 3; ++run) {
    src.fill(run);
    dst.poison();
    EXPECT_EQ(cudaGraphLaunch(launchable, stream), cudaSuccess);
    const Status status = driver.finish(Deadline(kTimeoutUs));
    wrong += status.ok() ? dst.check(run) : status.message();
    if (driver.num_runs() != run) wrong += fmt::format("{} runs are counted after {}\n", driver.num_runs(), run);
  }
  // And one that no graph launches.
  src.fill(9);
  dst.poison();
  EXPECT_TRUE(driver.start(stream).ok());
  const Status status = driver.finish(Deadline(kTimeoutUs));
  wrong += status.ok() ? dst.check(9) : status.message();
  EXPECT_EQ(cudaGraphExecDestroy(launchable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? wrong : "barrier\n";
}

class StreamCaptureTest : public ::testing::TestWithParam<bool> {};

TEST_P(StreamCaptureTest, EachLaunchOfAGraphIsARun) {
  const RowsToColumns given;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    testing::seed_streams(seed);
    EXPECT_EQ(run_ranks(2, [&](Transport* transport) { return launch_graph(given, transport, GetParam()); }), "")
        << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, StreamCaptureTest, ::testing::Bool(),
                         [](const auto& path) { return path.param ? "Mapped" : "Messages"; });

TEST(StreamCaptureRefusalTest, ACommunicatorThatCanBeCalledOffIsNotCaptured) {
  const RowsToColumns given;
  EXPECT_EQ(
      run_ranks(2,
                [&](Transport* transport) -> std::string {
                  RankBuffers src(*given.src, transport->rank(), transport, false);
                  RankBuffers dst(*given.dst, transport->rank(), transport, false);
                  auto binding = testing::bind({given.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
                  if (!binding.ok()) return binding.status().message();
                  auto* const stream = static_cast<cudaStream_t>(testing::callers_stream());
                  cudaSetDevice(transport->rank());
                  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
                  EXPECT_EQ((*binding)->driver().start(stream).code(), RESHARD_ERR_INVALID_STATE);
                  cudaGraph_t graph = nullptr;
                  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
                  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
                  return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? "" : "barrier\n";
                }),
      "");
}

}  // namespace
}  // namespace reshard
