// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

struct Refused {
  const char* text;
  std::vector<std::int32_t> segments;
  const char* named;
};

TEST(MachineApiTest, ErrorsNameWhatIsWrong) {
  const Refused cases[] = {
      {"hgx-h100:nodes=many", {8}, "nodes"},
      {"hgx-h100:leafs=2", {8}, "leafs"},
      {"hgx-h100:ranks=2", {8}, "ranks"},
      {"host:nodes=2", {2}, "ranks=N"},
      {"no-such-node", {2}, "no-such-node"},
      {"host:nodes=1,ranks=4", {4, 4}, "need 2 nodes and there are 1"},
      {"host:nodes=2,ranks=4", {4, 5}, "need 3 nodes and there are 2"},
      {"host:ranks=4", {4, -1}, "a segment of -1 ranks"},
      {"host:ranks=4", {0, 0}, "a machine for 0 ranks"},
  };
  for (const Refused& one : cases) {
    reshard_machine_t machine = reinterpret_cast<reshard_machine_t>(&machine);
    EXPECT_EQ(
        reshard_machine_create(one.text, static_cast<std::int32_t>(one.segments.size()), one.segments.data(), &machine),
        RESHARD_ERR_INVALID_ARGUMENT)
        << one.text;
    EXPECT_THAT(reshard_last_error(), HasSubstr(one.named)) << one.text;
    EXPECT_EQ(machine, nullptr) << one.text;
  }
  const std::int32_t four = 4;
  reshard_machine_t machine = nullptr;
  EXPECT_EQ(reshard_machine_create("host:ranks=4", 0, &four, &machine), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("num_segments is 0"));
  EXPECT_EQ(reshard_machine_create("/no/such/cluster.yaml", 1, &four, &machine), RESHARD_ERR_IO);
  EXPECT_THAT(reshard_last_error(), HasSubstr("/no/such/cluster.yaml"));
}

TEST(MachineApiTest, NullArgumentsAreNamed) {
  const std::int32_t four = 4;
  reshard_machine_t machine = nullptr;
  EXPECT_EQ(reshard_machine_create(nullptr, 1, &four, &machine), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_STREQ(reshard_last_error(), "text is NULL");
  EXPECT_EQ(reshard_machine_create("host:ranks=4", 1, nullptr, &machine), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_STREQ(reshard_last_error(), "segments is NULL");
  EXPECT_EQ(reshard_machine_create("host:ranks=4", 1, &four, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_STREQ(reshard_last_error(), "machine is NULL");
  const MachineOf host("host:ranks=4", {4});
  const char* json = nullptr;
  std::int32_t num_ranks = 0;
  EXPECT_EQ(reshard_machine_num_ranks(nullptr, &num_ranks), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_num_ranks(host.handle, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_report_json(nullptr, &json), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_report_json(host.handle, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  reshard_machine_destroy(nullptr);
}

TEST(MachineApiTest, SaysWhatItIsMadeOf) {
  const MachineOf host("host:ranks=4,nic=1gbit,link=5GB", {4, 3});
  std::int32_t num_ranks = 0;
  EXPECT_EQ(reshard_machine_num_ranks(host.handle, &num_ranks), RESHARD_OK);
  EXPECT_EQ(num_ranks, 7);
  const char* text = nullptr;
  ASSERT_EQ(reshard_machine_report_json(host.handle, &text), RESHARD_OK);
  const Json report = Json::parse(text, nullptr, false);
  ASSERT_TRUE(report.is_object()) << text;
  EXPECT_EQ(report["name"], "host:ranks=4,nic=1gbit,link=5GB");
  EXPECT_EQ(report["ranks"], 7);
  EXPECT_EQ(report["nodes"], 2);
  EXPECT_EQ(report["domains"], 2);
  EXPECT_EQ(report["ports"], 2);
  EXPECT_EQ(report["warnings"], Json::array());
  EXPECT_EQ(report["digest"].get<std::string>().size(), 16U);
  Json nic;
  Json memory;
  for (const Json& link : report["links"]) {
    if (link["class"] == "nic out") nic = link;
    if (link["class"] == "link out") memory = link;
  }
  EXPECT_EQ(nic, Json({{"class", "nic out"}, {"bytes_per_s", 125'000'000}, {"count", 2}}));
  EXPECT_EQ(memory, Json({{"class", "link out"}, {"bytes_per_s", 5'000'000'000}, {"count", 7}}));
}

TEST(MachineApiTest, TellsWhatIsInDoubt) {
  const MachineOf sure("host:ranks=4", {4});
  std::int32_t num_warnings = -1;
  ASSERT_EQ(reshard_machine_num_warnings(sure.handle, &num_warnings), RESHARD_OK);
  EXPECT_EQ(num_warnings, 0);
  const char* warning = "";
  EXPECT_EQ(reshard_machine_get_warning(sure.handle, 0, &warning), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("warning 0 of 0"));
  EXPECT_EQ(warning, nullptr);

  const MachineOf doubtful("hgx-h100:topology=" RESHARD_TEST_DATA "/topology/blocks.conf", {8});
  ASSERT_EQ(reshard_machine_num_warnings(doubtful.handle, &num_warnings), RESHARD_OK);
  ASSERT_EQ(num_warnings, 1);
  ASSERT_EQ(reshard_machine_get_warning(doubtful.handle, 0, &warning), RESHARD_OK);
  EXPECT_THAT(warning, HasSubstr("blocks.conf: NVLink of hgx-h100 does not span nodes"));
  const char* text = nullptr;
  ASSERT_EQ(reshard_machine_report_json(doubtful.handle, &text), RESHARD_OK);
  EXPECT_EQ(Json::parse(text)["warnings"], Json::array({warning}));

  EXPECT_EQ(reshard_machine_get_warning(doubtful.handle, -1, &warning), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_get_warning(doubtful.handle, 1, &warning), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_get_warning(nullptr, 0, &warning), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_get_warning(doubtful.handle, 0, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_num_warnings(nullptr, &num_warnings), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_machine_num_warnings(doubtful.handle, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
}

std::int64_t network_bytes(const PlanOf& plan) {
  const Json report = Json::parse(plan.report());
  for (const Json& link : report["link_classes"]) {
    if (link["class"] == "nic out") return link["bytes"];
  }
  return -1;
}

/// What all four destinations want crosses the network once, and goes from one of them to the next.
TEST(MachineApiTest, RelaysRunAndEveryElementArrives) {
  constexpr std::int64_t kBytes = 3 * 230 * 37 * 4;
  const Sides sides(replicating_spec(230, 37));  // nothing divides
  const MachineOf machine("host:nodes=2,ranks=4,nic=1gbit", {4, 4});
  for (const bool is_mappable : {false, true}) {
    const PlanOf plan(sides, machine.handle);
    std::mutex mutex;
    std::int64_t sent_by_destinations = 0;
    std::int64_t sent_by_sources = 0;
    std::int64_t brought_to_destinations = 0;
    run_on_local_comms(8, [&](reshard_comm_t comm, std::int32_t rank) {
      const reshard_binding_stats_t stats = run_and_check(sides, plan.handle, comm, is_mappable);
      const std::lock_guard lock(mutex);
      (rank < 4 ? sent_by_sources : sent_by_destinations) += stats.bytes_sent;
      if (rank >= 4) brought_to_destinations += stats.bytes_received + stats.bytes_mapped;
    });
    // Once over the network; the sources may pass some on among themselves, to have equal shares. From one destination
    // to another three times, for four want it.
    EXPECT_EQ(network_bytes(plan), kBytes);
    EXPECT_EQ(brought_to_destinations, 4 * kBytes);
    if (is_mappable) {  // what has landed is read where it lies
      EXPECT_EQ(sent_by_destinations, 0);
      continue;
    }
    EXPECT_GE(sent_by_sources, kBytes);
    EXPECT_LE(sent_by_sources, kBytes + kBytes / 50);
    EXPECT_EQ(sent_by_destinations, 3 * kBytes);
  }
}

TEST(MachineApiTest, WithoutAMachineNothingIsRelayed) {
  const Sides sides(replicating_spec(23, 37));
  const PlanOf plan(sides, nullptr);
  run_on_local_comms(8, [&](reshard_comm_t comm, std::int32_t rank) {
    const reshard_binding_stats_t stats = run_and_check(sides, plan.handle, comm, false);
    if (rank >= 4) {
      EXPECT_EQ(stats.bytes_sent, 0);
    }
  });
}

}  // namespace
}  // namespace reshard::testing
