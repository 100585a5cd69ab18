// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What holds a run on a device together are questions whether an event is past: that the caller's stream has done what
// it held, that a batch of copies is done. Here the double answers one of them too early, each in turn; a test that
// then finds every element right under all seeds would find no missing edge either.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using testing::run_world;
using testing::RunOptions;

constexpr std::uint64_t kNumSeeds = 64;
constexpr const char* kQuestion = "cudaEventQuery";

/// Two ranks have half of the rows each of what all ranks want whole, in fp32, and get it as bf16.
RunOptions halves(std::int32_t num_ranks, bool is_mappable) {
  const std::int64_t num_elements = is_mappable ? 3000 : 2000;  // each window has questions of its own
  auto src = std::make_shared<ModelLayout>(num_ranks);
  auto dst = std::make_shared<ModelLayout>(num_ranks);
  const auto mesh_of = [](std::int32_t size) {
    std::vector<std::int32_t> ranks;
    for (std::int32_t rank = 0; rank < size; ++rank) ranks.push_back(rank);
    return *Mesh::create({{"r", size}}, ranks);
  };
  Placement cut;
  cut.mesh = mesh_of(std::min(num_ranks, 2));
  Split split;
  split.num_parts = static_cast<int>(cut.mesh->ranks().size());
  cut.dims = {{std::make_shared<const DimMap>(*make_dim_map(num_elements, {split})), {0}}};
  cut.buffer = src->add_buffer("w", DType::kF32);
  Placement whole;
  whole.mesh = mesh_of(num_ranks);
  whole.dims.resize(1);
  whole.buffer = dst->add_buffer("w", DType::kBF16);
  EXPECT_TRUE(src->place(*src->add_tensor({"w", DType::kF32, {num_elements}, 0}), cut).ok());
  EXPECT_TRUE(dst->place(*dst->add_tensor({"w", DType::kBF16, {num_elements}, 0}), whole).ok());
  RunOptions options;
  options.scenario = {src, dst};
  options.plan = std::make_shared<const Plan>(*create_plan(src, dst, {4096}));
  options.src_mappable = options.dst_mappable = is_mappable;
  return options;
}

/// Whether a run with this question answered too early shows that it went wrong: by a wrong element, or by an end of
/// the process, since the double closes memory that is given back while work in a stream still needs it.
bool shows(RunOptions options, std::int64_t nth, std::uint64_t seed) {
  const pid_t child = fork();
  if (child == 0) {
    const int silence = open("/dev/null", O_WRONLY);  // of the double and of UCX, on what is wrong on purpose
    dup2(silence, STDOUT_FILENO);
    dup2(silence, STDERR_FILENO);
    options.late_seed = seed;
    cuda_double_leave_out(kQuestion, nth);
    _exit(run_world(options).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

bool is_found(const RunOptions& options, std::int64_t nth) {
  for (std::uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    if (shows(options, nth, seed)) return true;
  }
  return false;
}

class StreamEdgesTest : public ::testing::TestWithParam<std::pair<std::int32_t, bool>> {
 protected:
  void TearDown() override { cuda_double_clear(); }
};

TEST_P(StreamEdgesTest, EachMissingEdgeIsFoundUnderSomeSeed) {
  RunOptions options = halves(GetParam().first, GetParam().second);
  // The order of work decides how many questions come too early; those that half of the orders have are tried.
  std::vector<std::int64_t> counts;
  for (std::uint64_t seed = 1; seed <= kNumSeeds; ++seed) {
    options.late_seed = seed;
    cuda_double_leave_out(kQuestion, 0);
    ASSERT_EQ(run_world(options), "") << "seed " << seed;
    counts.push_back(cuda_double_orders_of(kQuestion));
  }
  std::sort(counts.begin(), counts.end());
  const std::int64_t num_questions = counts[kNumSeeds / 2];
  ASSERT_GT(num_questions, 0);
  for (std::int64_t nth = 1; nth <= num_questions; ++nth) {
    EXPECT_TRUE(is_found(options, nth)) << "question " << nth << " of " << num_questions;
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, StreamEdgesTest,
                         ::testing::Values(std::pair{1, true}, std::pair{3, true}, std::pair{3, false}));

}  // namespace
}  // namespace reshard
