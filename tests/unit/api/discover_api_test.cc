// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

reshard_machine_discover_options_t gigabit() {
  reshard_machine_discover_options_t options;
  reshard_machine_discover_options_init(&options);
  options.nic_bits_per_s = 1'000'000'000;  // virtual hosts have NICs that do not tell
  return options;
}

/// Ranks of a host without GPUs share its memory, however many; one with GPUs has a rank on each at most.
bool has_gpus() {
  return std::filesystem::exists("/dev/nvidiactl");
}

bool is_known(reshard_status_t status) {
  return status != RESHARD_ERR_NOT_SUPPORTED;  // a build without hwloc
}

TEST(DiscoverTest, RanksOfThisHostMakeOneDomainAndOneMachine) {
  const std::int32_t count = has_gpus() ? 1 : 3;
  std::mutex mutex;
  std::set<std::string> digests;
  std::atomic<bool> is_supported{true};
  run_on_local_comms(count, [&](reshard_comm_t comm, std::int32_t) {
    const reshard_machine_discover_options_t options = gigabit();
    reshard_machine_t machine = nullptr;
    const reshard_status_t status = reshard_machine_discover(comm, &options, &machine);
    is_supported = is_known(status);
    if (!is_supported) return;
    ASSERT_EQ(status, RESHARD_OK) << reshard_last_error();
    std::int32_t num_ranks = 0;
    EXPECT_EQ(reshard_machine_num_ranks(machine, &num_ranks), RESHARD_OK);
    EXPECT_EQ(num_ranks, count);
    const char* text = nullptr;
    ASSERT_EQ(reshard_machine_report_json(machine, &text), RESHARD_OK);
    const Json report = Json::parse(text, nullptr, false);
    EXPECT_EQ(report["nodes"], 1) << text;
    EXPECT_EQ(report["domains"], 1) << text;
    EXPECT_EQ(report["ranks"], count) << text;
    const std::lock_guard lock(mutex);
    digests.insert(report["digest"].get<std::string>());
    reshard_machine_destroy(machine);
  });
  if (!is_supported) GTEST_SKIP() << "this build has no hwloc";
  EXPECT_EQ(digests.size(), 1U);
}

TEST(DiscoverTest, PlansForWhatWasFoundAreEqualAndRun) {
  if (has_gpus()) GTEST_SKIP() << "8 ranks want as many GPUs";
  const Sides sides(replicating_spec(17, 5));
  std::mutex mutex;
  std::set<std::uint64_t> hashes;
  std::atomic<bool> is_supported{true};
  run_on_local_comms(8, [&](reshard_comm_t comm, std::int32_t) {
    const reshard_machine_discover_options_t options = gigabit();
    reshard_machine_t machine = nullptr;
    is_supported = is_known(reshard_machine_discover(comm, &options, &machine));
    if (!is_supported) return;
    const PlanOf plan(sides, machine);
    reshard_machine_destroy(machine);
    run_and_check(sides, plan.handle, comm, false);
    const std::lock_guard lock(mutex);
    hashes.insert(plan.info().hash);
  });
  if (!is_supported) GTEST_SKIP() << "this build has no hwloc";
  EXPECT_EQ(hashes.size(), 1U);
}

TEST(DiscoverTest, OneRanksErrorIsEveryRanks) {
  run_on_local_comms(3, [&](reshard_comm_t comm, std::int32_t rank) {
    reshard_machine_discover_options_t options = gigabit();
    if (rank == 1) options.nic_bits_per_s = -5;
    reshard_machine_t machine = reinterpret_cast<reshard_machine_t>(&machine);
    const reshard_status_t status = reshard_machine_discover(comm, &options, &machine);
    const std::string error = reshard_last_error();
    EXPECT_EQ(machine, nullptr);
    if (rank != 1 && status == RESHARD_ERR_NOT_SUPPORTED) return;  // no hwloc: this rank's own error comes first
    EXPECT_EQ(status, RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(error, HasSubstr("nic_bits_per_s is -5"));
    EXPECT_EQ(error.starts_with("on rank 1: "), rank != 1) << error;
  });
}

TEST(DiscoverTest, TwoRanksOnOneGpuAreRefusedOnEveryRank) {
  run_on_local_comms(3, [&](reshard_comm_t comm, std::int32_t rank) {
    reshard_machine_discover_options_t options = gigabit();
    options.gpu = rank == 0 ? 0 : 1;
    reshard_machine_t machine = nullptr;
    const reshard_status_t status = reshard_machine_discover(comm, &options, &machine);
    if (!is_known(status)) return;
    EXPECT_EQ(status, RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("index 1 is another rank's too"));
  });
}

TEST(DiscoverTest, AMissingRankIsATimeout) {
  std::promise<void> given_up;
  run_on_local_comms(2, [&](reshard_comm_t comm, std::int32_t rank) {
    if (rank == 1) {
      given_up.get_future().wait();
      // In place of the description that the other one waited for, so that the barrier is the same for both.
      static_cast<void>(reshard_comm_allgather(comm, nullptr, nullptr, 0, 1'000));
      return;
    }
    reshard_machine_discover_options_t options = gigabit();
    options.timeout_us = 100'000;
    reshard_machine_t machine = nullptr;
    EXPECT_EQ(reshard_machine_discover(comm, &options, &machine), RESHARD_ERR_TIMEOUT) << reshard_last_error();
    EXPECT_EQ(machine, nullptr);
    given_up.set_value();
  });
}

TEST(DiscoverTest, ArgumentsAreChecked) {
  run_on_local_comms(1, [&](reshard_comm_t comm, std::int32_t) {
    reshard_machine_t machine = nullptr;
    reshard_machine_discover_options_t options = gigabit();
    EXPECT_EQ(reshard_machine_discover(nullptr, &options, &machine), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_STREQ(reshard_last_error(), "comm is NULL");
    EXPECT_EQ(reshard_machine_discover(comm, &options, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_STREQ(reshard_last_error(), "machine is NULL");
    options.timeout_us = 0;
    EXPECT_EQ(reshard_machine_discover(comm, &options, &machine), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("timeout_us is 0"));
    options = gigabit();
    options.gpu = -2;
    EXPECT_EQ(reshard_machine_discover(comm, &options, &machine), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("gpu is -2"));
    options = {};
    EXPECT_EQ(reshard_machine_discover(comm, &options, &machine), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("reshard_machine_discover_options_t"));
  });
}

}  // namespace
}  // namespace reshard::testing
