// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs that are given up: nobody may take bytes of two runs for those of one.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::AnyOf;
using testing::Choices;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;
using testing::Scenario;

/// Deadlines of a few hundred microseconds, which about half of the runs meet.
constexpr std::int64_t kMostDeadlineUs = 1500;

#ifdef __SANITIZE_THREAD__
constexpr bool kIsUnderThreadSanitizer = true;
#else
constexpr bool kIsUnderThreadSanitizer = false;
#endif

/// What peers can read in place.
struct Mapped {
  const char* name;
  bool src = false;
  bool dst = false;
};

/// One rank of a world in which everybody gives up when he likes: what it finds wrong.
std::string give_up_at_random(const Scenario& scenario, const std::shared_ptr<const Plan>& plan, const Mapped& mapped,
                              std::uint32_t seed, int num_runs, Transport* transport) {
  RankBuffers src(*scenario.src, transport->rank(), transport, mapped.src);
  RankBuffers dst(*scenario.dst, transport->rank(), transport, mapped.dst);
  auto binding = testing::bind({plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
  if (!binding.ok()) return binding.status().message() + "\n";
  Driver& driver = (*binding)->driver();
  std::mt19937 random(seed + static_cast<std::uint32_t>(transport->rank()));
  std::string wrong;
  for (int run = 0; run <= num_runs && wrong.empty(); ++run) {
    // A source changes as soon as its rank may: right after a run that it gave up.
    src.fill(run);
    dst.poison();
    const bool is_last = run == num_runs;
    if (is_last && !transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier\n";
    Status status = driver.start();
    if (testing::is_on_streams() && status.code() == RESHARD_ERR_INVALID_STATE) {  // the last run was its last
      if (!is_last && !transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier\n";
      break;
    }
    if (status.ok()) {
      status =
          driver.finish(Deadline(is_last ? kTimeoutUs : 1 + static_cast<std::int64_t>(random() % kMostDeadlineUs)));
    }
    if (status.ok()) {
      wrong = dst.check(run);
    } else if ((is_last && !testing::is_on_streams()) ||
               (status.code() != RESHARD_ERR_TIMEOUT && status.code() != RESHARD_ERR_ABANDONED)) {
      wrong = status.message() + "\n";
    } else {
      for (std::int32_t i = 0; i < driver.num_groups_complete() && wrong.empty(); ++i) {
        wrong = dst.check(run, (*binding)->group_at(i));
      }
    }
    if (!wrong.empty()) wrong = fmt::format("seed {} run {}: {}", seed, run, wrong);
  }
  if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) wrong += "barrier\n";
  return wrong;
}

class AbandonTest : public ::testing::TestWithParam<Mapped> {};

TEST_P(AbandonTest, ASuccessIsNeverAMixtureOfTwoRuns) {
  const Mapped mapped = GetParam();
  if ((mapped.src || mapped.dst) && kIsUnderThreadSanitizer) {
    GTEST_SKIP()
        << "a copy out of memory whose owner has just given the run up races with it by design: RunWord tells, "
           "and the run is no success; the other presets run this";
  }
  const char* chosen = std::getenv("RESHARD_TEST_SEED");
  const std::uint32_t seed = chosen != nullptr ? static_cast<std::uint32_t>(std::atoi(chosen)) : std::random_device()();
  std::mt19937 random(seed);
  // A double of a device takes ten times as long: there each number of ranks comes once.
  const int num_worlds = testing::is_on_device() ? 6 : 12;
  for (int world = 0; world < num_worlds; ++world) {
    std::vector<std::uint32_t> numbers(400);
    for (std::uint32_t& number : numbers) number = static_cast<std::uint32_t>(random() % 1000);
    Choices choices(numbers);
    const std::int32_t num_ranks = 3 + world % 6;
    const Scenario scenario = testing::make_scenario(&choices, num_ranks);
    Result<Plan> plan = create_plan(scenario.src, scenario.dst, {std::int64_t{64} << choices.pick(8)});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    if (world % 3 > 0) testing::relay_at_random(&choices, &*plan);
    ASSERT_TRUE(check_routes(*plan).ok());
    const auto shared = std::make_shared<const Plan>(std::move(plan).take());
    EXPECT_EQ(run_ranks(num_ranks,
                        [&](Transport* transport) {
                          return give_up_at_random(scenario, shared, mapped, seed, 25, transport);
                        }),
              "")
        << "RESHARD_TEST_SEED=" << seed << " world " << world;
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, AbandonTest,
                         ::testing::Values(Mapped{"Windows"}, Mapped{"Mapped", true, true},
                                           Mapped{"Landed", false, true}),
                         [](const ::testing::TestParamInfo<Mapped>& path) { return path.param.name; });

}  // namespace
}  // namespace reshard
