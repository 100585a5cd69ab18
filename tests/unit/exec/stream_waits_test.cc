// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What holds a run in streams together are waits of one stream for an event of another. stream_program_test.cc leaves
// out each wait of many programs in turn, on paper, and must miss it. Here the double leaves some out, and what is
// missed are bytes: were runs right all the same, the tests of runs would find nothing. Whether one shows is a matter
// of the order of work: a wait of a group for its copies shows under one seed in thirty. RESHARD_STREAM_WAITS=all tries
// every wait, under as many seeds as that takes; that is minutes, as some of them make a run hang.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <set>
#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"
#include "tests/unit/exec/stream_jobs.h"

namespace reshard {
namespace {

using testing::run_world;
using testing::RunOptions;
using testing::StreamJob;

constexpr const char* kWait = "cudaStreamWaitEvent";
constexpr unsigned kHangSeconds = 10;  // what waits for ever shows, too
constexpr std::int64_t kEnough = 3;    // of waits that show, for a test that takes seconds

bool tries_all() {
  return std::getenv("RESHARD_STREAM_WAITS") != nullptr;
}

struct World {
  const char* name;
  std::int32_t num_ranks;
  bool is_mappable;
  std::int64_t num_groups;
};
void PrintTo(const World& world, std::ostream* out) {
  *out << world.name;
}

RunOptions options_of(const World& world) {
  const StreamJob job = testing::rows_to_columns(world.num_ranks, world.num_groups, {1 << 13});
  RunOptions options;
  options.scenario = {job.src, job.dst};
  options.plan = job.plan;
  options.src_mappable = options.dst_mappable = world.is_mappable;
  options.spoils_groups = true;  // so that a group that is said to be complete too early shows
  return options;
}

/// Whether a run without the nth wait shows that it went wrong: by a wrong element, an end of the process, or a hang.
bool shows(RunOptions options, std::int64_t nth, std::uint64_t seed) {
  const pid_t child = fork();
  if (child == 0) {
    const int silence = open("/dev/null", O_WRONLY);  // of the doubles, on what is wrong on purpose
    dup2(silence, STDOUT_FILENO);
    dup2(silence, STDERR_FILENO);
    alarm(kHangSeconds);
    nccl_double_set_deadlock_ms(500);
    options.late_seed = seed;
    cuda_double_leave_out(kWait, nth);
    _exit(run_world(options).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

class StreamWaitsTest : public ::testing::TestWithParam<World> {
 protected:
  void TearDown() override { cuda_double_clear(); }
};

TEST_P(StreamWaitsTest, AMissingWaitIsFoundUnderSomeSeed) {
  if (GetParam().is_mappable && GetParam().num_ranks > 1 && !tries_all()) GTEST_SKIP() << "hangs, which take long";
  RunOptions options = options_of(GetParam());
  options.late_seed = 1;
  cuda_double_leave_out(kWait, 0);
  ASSERT_EQ(run_world(options), "");
  const std::int64_t num_waits = cuda_double_orders_of(kWait);
  ASSERT_GT(num_waits, 0);
  // Seed after seed over all waits, until enough have shown. A sample of waits would pass or fail with the load of the
  // machine, for how often the host asks, which draws numbers too, is a matter of time.
  const std::uint64_t num_seeds = tries_all() ? 500 : 30;
  const auto enough = static_cast<std::size_t>(tries_all() ? num_waits : std::min(num_waits, kEnough));
  std::set<std::int64_t> found;
  for (std::uint64_t seed = 1; seed <= num_seeds && found.size() < enough; ++seed) {
    for (std::int64_t nth = 1; nth <= num_waits && found.size() < enough; ++nth) {
      if (!found.contains(nth) && shows(options, nth, seed)) found.insert(nth);
    }
  }
  std::vector<std::int64_t> silent;
  for (std::int64_t nth = 1; nth <= num_waits; ++nth) {
    if (!found.contains(nth)) silent.push_back(nth);
  }
  EXPECT_GE(found.size(), enough) << "of " << num_waits
                                  << " waits these do not show: " << ::testing::PrintToString(silent);
}

INSTANTIATE_TEST_SUITE_P(Worlds, StreamWaitsTest,
                         ::testing::Values(World{"Alone", 1, true, 3}, World{"Mapped", 2, true, 2},
                                           World{"Messages", 2, false, 2}),
                         [](const auto& world) { return world.param.name; });

}  // namespace
}  // namespace reshard
