// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/api/transfer.h"
#include "tests/unit/temporary_file.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr const char* kTwoHosts = "host:nodes=2,ranks=4,nic=1gbit";

Json parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  EXPECT_TRUE(json.is_object()) << text;
  return json;
}

TEST(MachinePlanTest, TimesAreInTheInfoAndInTheReport) {
  const Sides sides(replicating_spec(1024, 1024));
  const MachineOf machine(kTwoHosts, {4, 4});
  const PlanOf plan(sides, machine.handle);
  const reshard_plan_info_t info = plan.info();
  // 12 MiB have to enter the second host, through 125 MB/s.
  constexpr double kNetworkSeconds = 3.0 * 1024 * 1024 * 4 / 125e6;
  EXPECT_GE(info.bound_seconds, kNetworkSeconds * (1 - 1e-9));
  EXPECT_LE(info.bound_seconds, kNetworkSeconds * 1.02);
  EXPECT_GE(info.estimate_seconds, info.bound_seconds);
  EXPECT_LE(info.estimate_seconds, kNetworkSeconds * 1.5);
  const Json report = parse(plan.report());
  EXPECT_EQ(report["machine"], kTwoHosts);
  EXPECT_EQ(report["estimate_seconds"], info.estimate_seconds);
  EXPECT_EQ(report["bound_seconds"], info.bound_seconds);
  EXPECT_FALSE(report.contains("simulated_seconds"));
}

TEST(MachinePlanTest, WithoutAMachineThereAreNoTimes) {
  const Sides sides(replicating_spec(24, 5));
  const PlanOf plan(sides, nullptr);
  EXPECT_EQ(plan.info().estimate_seconds, 0);
  EXPECT_EQ(plan.info().bound_seconds, 0);
  const Json report = parse(plan.report());
  EXPECT_FALSE(report.contains("estimate_seconds"));
  EXPECT_FALSE(report.contains("bound_seconds"));
}

TEST(MachinePlanTest, ThePlanOutlivesItsMachine) {
  const Sides sides(replicating_spec(24, 5));
  auto machine = std::make_unique<MachineOf>(kTwoHosts, std::vector<std::int32_t>{4, 4});
  const PlanOf plan(sides, machine->handle);
  machine.reset();
  EXPECT_GT(plan.info().estimate_seconds, 0);
}

TEST(MachinePlanTest, AMachineOfOtherRanksIsRefused) {
  const Sides sides(small_spec());
  const MachineOf machine(kTwoHosts, {4, 4});
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.machine = machine.handle;
  reshard_plan_t plan = reinterpret_cast<reshard_plan_t>(&plan);
  EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(), HasSubstr("the machine has 8 ranks and the layouts have 4"));
  EXPECT_EQ(plan, nullptr);
}

TEST(MachinePlanTest, OrdersOfGroupsAreChecked) {
  const Sides sides(small_spec());
  reshard_plan_options_t options;
  reshard_plan_t plan = nullptr;
  for (const int order : {-1, 3}) {
    reshard_plan_options_init(&options);
    options.group_order = static_cast<reshard_group_order_t>(order);
    EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("group_order is " + std::to_string(order)));
  }
  reshard_plan_options_init(&options);
  options.open_groups = -1;
  EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("open_groups is -1"));
  for (const reshard_group_order_t order : {RESHARD_ORDER_FIXED, RESHARD_ORDER_ROTATED, RESHARD_ORDER_ANY}) {
    reshard_plan_options_init(&options);
    options.group_order = order;
    options.open_groups = 1;
    ASSERT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_OK) << reshard_last_error();
    run_on_local_comms(4, [&](reshard_comm_t comm, std::int32_t) { run_and_check(sides, plan, comm, false); });
    reshard_plan_destroy(plan);
  }
}

TEST(MachinePlanTest, OptionsOfTheFirstVersionAreRefused) {
  const Sides sides(small_spec());
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  EXPECT_EQ(options.version, 3U);
  options.version = 1;
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &plan), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("reshard_plan_options_t"));
}

/// A plan for a machine in a file of its own.
class SavedPlan : public ::testing::Test {
 protected:
  void SetUp() override {
    const PlanOf plan(sides_, machine_.handle);
    hash_ = plan.info().hash;
    ASSERT_EQ(reshard_plan_save(plan.handle, file_.path().c_str()), RESHARD_OK) << reshard_last_error();
    std::ostringstream text;
    text << std::ifstream(file_.path(), std::ios::binary).rdbuf();
    text_ = text.str();
  }

  void write(const std::string& text) const { write_text_file(file_.path(), text); }
  /// What loading it for a machine says; empty on success.
  std::string load(reshard_machine_t machine) {
    reshard_plan_t plan = nullptr;
    const reshard_status_t status = reshard_plan_load(file_.path().c_str(), sides_.src, sides_.dst, machine, &plan);
    if (status == RESHARD_OK) {
      reshard_plan_info_t info;
      reshard_plan_info_init(&info);
      EXPECT_EQ(reshard_plan_get_info(plan, &info), RESHARD_OK);
      EXPECT_EQ(info.hash, hash_);
      EXPECT_GT(info.estimate_seconds, 0);
      reshard_plan_destroy(plan);
      return "";
    }
    EXPECT_EQ(status, RESHARD_ERR_PLAN_MISMATCH);
    EXPECT_EQ(plan, nullptr);
    return reshard_last_error();
  }

  const Sides sides_{replicating_spec(24, 5)};
  const MachineOf machine_{kTwoHosts, {4, 4}};
  const TemporaryFile file_{".plan"};
  std::string text_;
  std::uint64_t hash_ = 0;
};

TEST_F(SavedPlan, ComesBackForItsMachineOnly) {
  EXPECT_EQ(load(machine_.handle), "");
  const MachineOf same(kTwoHosts, {4, 4});
  EXPECT_EQ(load(same.handle), "");
  const MachineOf faster("host:nodes=2,ranks=4,nic=2gbit", {4, 4});
  EXPECT_THAT(load(faster.handle), HasSubstr("another machine"));
  const MachineOf smaller("host:nodes=1,ranks=4", {4});
  EXPECT_THAT(load(smaller.handle), HasSubstr("another machine"));
  EXPECT_THAT(load(nullptr), HasSubstr("another machine"));
}

TEST_F(SavedPlan, OfNoMachineIsNotForOne) {
  const PlanOf plan(sides_, nullptr);
  ASSERT_EQ(reshard_plan_save(plan.handle, file_.path().c_str()), RESHARD_OK);
  EXPECT_THAT(load(machine_.handle), HasSubstr("another machine (digest none"));
}

TEST_F(SavedPlan, OfAnotherVersionOrDamagedIsRefused) {
  Json json = parse(text_);
  json["reshard_plan"] = json["reshard_plan"].get<int>() + 1;
  write(json.dump());
  EXPECT_THAT(load(machine_.handle), HasSubstr("the saved plan has format"));
  for (const char* key : {"hops", "routes", "ranges", "machine", "order", "hash"}) {
    json = parse(text_);
    json.erase(key);
    write(json.dump());
    EXPECT_THAT(load(machine_.handle), HasSubstr("damaged")) << key;
  }
  json = parse(text_);
  json["hops"][1] = json["hops"][1].get<int>() == 4 ? 5 : 4;  // another receiver
  write(json.dump());
  EXPECT_THAT(load(machine_.handle), HasSubstr("hash"));
  write(text_.substr(0, text_.size() / 2));
  EXPECT_THAT(load(machine_.handle), HasSubstr("damaged"));
  write("");
  EXPECT_THAT(load(machine_.handle), HasSubstr("damaged"));
}

TEST(MachinePlanTest, SimulationIsNeverBelowTheBound) {
  const Sides sides(replicating_spec(1024, 64));
  const MachineOf machine(kTwoHosts, {4, 4});
  const PlanOf plan(sides, machine.handle);
  double seconds = 0;
  ASSERT_EQ(reshard_plan_simulate(plan.handle, &seconds), RESHARD_OK) << reshard_last_error();
  EXPECT_GE(seconds, plan.info().bound_seconds);
  EXPECT_EQ(parse(plan.report())["simulated_seconds"], seconds);
  EXPECT_EQ(reshard_plan_simulate(plan.handle, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_plan_simulate(nullptr, &seconds), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(MachinePlanTest, DetailsTellOfOneBundle) {
  const Sides sides(replicating_spec(24, 5));
  const MachineOf machine(kTwoHosts, {4, 4});
  const PlanOf plan(sides, machine.handle);
  const std::int64_t count = plan.info().num_bundles;
  EXPECT_EQ(count, 4);  // a quarter each
  const char* text = nullptr;
  for (std::int64_t bundle = -1; bundle < count; ++bundle) {
    ASSERT_EQ(reshard_plan_details_json(plan.handle, bundle, &text), RESHARD_OK) << reshard_last_error();
    const Json details = parse(text);
    EXPECT_EQ(details["bundle"]["bytes"], 3 * 6 * 5 * 4) << bundle;
    EXPECT_EQ(details["bundle"]["destinations"], Json({4, 5, 6, 7})) << bundle;
  }
  for (const std::int64_t bundle : {std::int64_t{-2}, count}) {
    EXPECT_EQ(reshard_plan_details_json(plan.handle, bundle, &text), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("bundle " + std::to_string(bundle) + " does not exist"));
  }
  EXPECT_EQ(reshard_plan_details_json(plan.handle, 0, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(MachinePlanTest, AdviceIsAnOrderOfTheDestinations) {
  const Sides sides(replicating_spec(24, 5));
  const MachineOf machine(kTwoHosts, {4, 4});
  for (const reshard_machine_t given : {machine.handle, static_cast<reshard_machine_t>(nullptr)}) {
    const PlanOf plan(sides, given);
    const char* text = nullptr;
    ASSERT_EQ(reshard_plan_advise_json(plan.handle, &text), RESHARD_OK) << reshard_last_error();
    const Json advice = parse(text);
    EXPECT_EQ(advice["ranks"], Json({4, 5, 6, 7}));
    std::vector<int> takes = advice["takes"].get<std::vector<int>>();
    EXPECT_THAT(takes, ::testing::UnorderedElementsAre(4, 5, 6, 7));
    // Whoever takes whose place, each wants everything and has nothing: there is nothing to gain.
    EXPECT_EQ(advice["moved_bytes_now"], 4 * 3 * 24 * 5 * 4);
    EXPECT_EQ(advice["moved_bytes_best"], 4 * 3 * 24 * 5 * 4);
    // Counted for each destination, relays or not.
    EXPECT_EQ(advice["network_bytes_now"], given == nullptr ? 0 : 4 * 3 * 24 * 5 * 4);
    EXPECT_EQ(advice["gain"], 0.0);
    EXPECT_EQ(reshard_plan_advise_json(plan.handle, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  }
}

TEST(MachinePlanTest, StagesAreCounted) {
  const Sides sides(replicating_spec(24, 5));
  const MachineOf machine(kTwoHosts, {4, 4});
  for (const reshard_machine_t given : {machine.handle, static_cast<reshard_machine_t>(nullptr)}) {
    const PlanOf plan(sides, given);
    const char* text = nullptr;
    for (const std::int32_t version : {22809, 22907}) {
      ASSERT_EQ(reshard_plan_stream_json(plan.handle, version, 0, &text), RESHARD_OK) << reshard_last_error();
      const Json streams = parse(text);
      EXPECT_EQ(streams["nccl_version"], version);
      EXPECT_EQ(streams["operations_limit"], version == 22809 ? 6 : 0);
      EXPECT_EQ(streams["has_all_ranks"], true);
      ASSERT_EQ(streams["ranks"].size(), 8U);
      const Json& busiest = streams["ranks"][0];
      EXPECT_GT(busiest["operations"], 0);
      EXPECT_LE(busiest["operations"], busiest["windows"]);
      EXPECT_LE(busiest["groups"], busiest["stages"]);
      EXPECT_LE(busiest["most_launches_per_stage"], 2);
      EXPECT_LE(busiest["staging_bytes"], streams["staging_budget_bytes"]);
      if (version == 22809) {
        EXPECT_LE(busiest["most_operations_per_group"], 6);
      }
      // Ranks of a host read each other's memory, so only what crosses is sent.
      std::int64_t num_reads = 0;
      for (const Json& rank : streams["ranks"]) num_reads += rank["reads"].get<std::int64_t>();
      EXPECT_EQ(num_reads > 0, given != nullptr);
    }
    ASSERT_EQ(reshard_plan_stream_json(plan.handle, 22809, 4, &text), RESHARD_OK);
    EXPECT_EQ(parse(text)["operations_limit"], 62);
    EXPECT_EQ(reshard_plan_stream_json(plan.handle, 22809, -1, &text), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("max_ctas is -1"));
    EXPECT_EQ(reshard_plan_stream_json(plan.handle, 2809, 0, &text), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(reshard_last_error(), HasSubstr("older than 2.28"));
    EXPECT_EQ(reshard_plan_stream_json(plan.handle, 22809, 0, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_EQ(reshard_plan_stream_json(nullptr, 22809, 0, &text), RESHARD_ERR_INVALID_ARGUMENT);
  }
}

TEST(MachinePlanTest, OnPaperAPlanNeedsAMachine) {
  const Sides sides(small_spec());
  const PlanOf plan(sides, nullptr);
  double seconds = -1;
  const char* text = nullptr;
  EXPECT_EQ(reshard_plan_simulate(plan.handle, &seconds), RESHARD_ERR_INVALID_STATE);
  EXPECT_THAT(reshard_last_error(), HasSubstr("no machine"));
  EXPECT_EQ(seconds, -1);
  EXPECT_EQ(reshard_plan_details_json(plan.handle, -1, &text), RESHARD_ERR_INVALID_STATE);
  EXPECT_EQ(text, nullptr);
}

}  // namespace
}  // namespace reshard::testing
