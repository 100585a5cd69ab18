// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/discover/discover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "topology/cluster.h"
#include "topology/read/file.h"

namespace reshard {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

/// The recorded host (a GPU and a NIC below one bridge), a kernel's files in a folder of the test, and the stub of
/// NVML.
class Discovery : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("reshard_discover_" + std::to_string(getpid()));
    options_.hwloc_xml = *read_file(RESHARD_TEST_DATA "/host_gpu_nic.xml");
    options_.sysfs = folder_.string();
    options_.nvml_library = RESHARD_NVML_STUB;
    write("class/infiniband/mlx5_7/ports/1/state", "4: ACTIVE");
    write("class/infiniband/mlx5_7/ports/1/rate", "400 Gb/sec (4X NDR)");
    write("class/net/eth7/operstate", "up");
    write("class/net/eth7/speed", "100000");
    for (const char* name : {"STUB_GPUS", "STUB_SWITCHES", "STUB_PEERS", "STUB_CLUSTER", "STUB_INIT"}) unsetenv(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& line) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << line << "\n";
  }
  static void set(const char* name, int value) { setenv(name, std::to_string(value).c_str(), 1); }

  std::filesystem::path folder_;
  DiscoverOptions options_;
};

TEST_F(Discovery, FindsGpusTheirLinksAndTheirNic) {
  set("STUB_GPUS", 2);
  set("STUB_SWITCHES", 18);
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  const NodeType& node = found->node;
  ASSERT_EQ(node.gpus.size(), 2U);
  ASSERT_EQ(node.ports.size(), 1U);
  EXPECT_EQ(port_name(node.ports[0]), "mlx5_7");
  EXPECT_EQ(node.ports[0].nics[0].link.nominal_bytes_per_s, 50'000'000'000);
  EXPECT_EQ(node.gpus[0].port, 0);
  EXPECT_EQ(node.gpus[0].link.nominal_bytes_per_s, 450'000'000'000);
  EXPECT_EQ(node.gpus[0].pcie.nominal_bytes_per_s, 63'000'000'000);
  EXPECT_EQ(node.gpus[0].memory.nominal_bytes_per_s, 3'350'000'000'000);
  EXPECT_EQ(node.gpus[0].multicast_permille, 850);
  EXPECT_EQ(node.gpus[0].link_group, node.gpus[1].link_group);
  EXPECT_EQ(found->domain_id, "");
  EXPECT_THAT(found->warnings, ElementsAre(HasSubstr("0000:22:00 is at no known place")));
  EXPECT_EQ(*node_from_text(to_text(node)), node);
}

TEST_F(Discovery, FollowsLinksBetweenGpus) {
  set("STUB_GPUS", 4);
  set("STUB_PEERS", 4);
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->node.gpus[0].link.nominal_bytes_per_s, 100'000'000'000);
  EXPECT_EQ(found->node.gpus[0].multicast_permille, 0);  // there is no switch
  EXPECT_EQ(found->node.gpus[0].link_group, found->node.gpus[1].link_group);
  EXPECT_EQ(found->node.gpus[2].link_group, found->node.gpus[3].link_group);
  EXPECT_NE(found->node.gpus[0].link_group, found->node.gpus[2].link_group);
}

TEST_F(Discovery, JoinsNodesOfOneFabricClique) {
  set("STUB_GPUS", 1);
  set("STUB_SWITCHES", 18);
  set("STUB_CLUSTER", 0xab);
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->domain_id, "ab000000000000000000000000000000.7");
  const std::string text = to_text(found->node);
  const Result<Machine> machine =
      make_machine_from_nodes({{"a", text, 0, found->domain_id}, {"b", text, 0, found->domain_id}});
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  EXPECT_TRUE(machine->same_domain(RankId(0), RankId(1)));
}

TEST_F(Discovery, TakesGpusWithoutNvlinkAsJoinedByPcie) {
  set("STUB_GPUS", 2);
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->node.gpus[0].link.nominal_bytes_per_s, 63'000'000'000);
  EXPECT_THAT(found->warnings, Contains(HasSubstr("has no NVLink")));
}

TEST_F(Discovery, MakesAHostWithoutADriver) {
  for (const bool has_library : {false, true}) {
    if (!has_library) options_.nvml_library = "no_such_library.so";
    if (has_library) options_.nvml_library = RESHARD_NVML_STUB;
    set("STUB_GPUS", 8);
    set("STUB_INIT", 9);  // no driver
    const Result<DiscoveredNode> found = discover_node(options_);
    ASSERT_TRUE(found.ok()) << found.status().message();
    EXPECT_TRUE(found->node.gpus.empty());
    EXPECT_EQ(found->node.ports.size(), 1U);
    EXPECT_GT(found->node.shared_memory.bytes_per_s(), 0);
    const std::string text = to_text(found->node);
    const Result<Machine> machine = make_machine_from_nodes({{"a", text, 0, ""}, {"a", text, 1, ""}});
    ASSERT_TRUE(machine.ok()) << machine.status().message();
    EXPECT_TRUE(machine->same_domain(RankId(0), RankId(1)));
  }
}

TEST_F(Discovery, FailsWhereTheLibraryDoes) {
  set("STUB_INIT", 999);
  EXPECT_THAT(discover_node(options_).status().message(), HasSubstr("nvmlInit_v2 returned 999"));
  options_.nvml_library = "libdl.so.2";
  EXPECT_THAT(discover_node(options_).status().message(), HasSubstr("has no nvmlInit_v2"));
}

TEST_F(Discovery, TakesAnInterfaceWhereNoRdmaDeviceIsUp) {
  write("class/infiniband/mlx5_7/ports/1/state", "1: DOWN");
  Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(port_name(found->node.ports.at(0)), "eth7");
  EXPECT_EQ(found->node.ports[0].nics[0].link.nominal_bytes_per_s, 12'500'000'000);
  write("class/net/eth7/operstate", "down");
  found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_TRUE(found->node.ports.empty());
}

TEST_F(Discovery, AsksForTheSpeedOfANicThatTheKernelDoesNotKnow) {
  write("class/infiniband/mlx5_7/ports/1/state", "1: DOWN");
  write("class/net/eth7/speed", "-1");
  EXPECT_THAT(discover_node(options_).status().message(), HasSubstr("speed of eth7"));
  options_.nic_bytes_per_s = 125'000'000;
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->node.ports.at(0).nics[0].link.nominal_bytes_per_s, 125'000'000);
}

TEST_F(Discovery, LeavesSlowAndLoopbackInterfacesOut) {
  write("class/infiniband/mlx5_7/ports/1/state", "1: DOWN");
  write("class/net/eth7/operstate", "down");
  for (const auto& [name, speed] :
       {std::pair("veth0", "10000"), std::pair("veth1", "10000"), std::pair("mgmt", "1000")}) {
    write(std::string("class/net/") + name + "/speed", speed);
    write(std::string("class/net/") + name + "/operstate", "up");
    write(std::string("class/net/") + name + "/type", "1");
  }
  write("class/net/lo/type", "772");
  const Result<DiscoveredNode> found = discover_node(options_);
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_EQ(found->node.ports.size(), 2U);
  EXPECT_EQ(port_name(found->node.ports[1]), "veth1");
  EXPECT_EQ(found->node.ports[1].rail, 1);
  EXPECT_THAT(found->warnings, ElementsAre(HasSubstr("mgmt is left out")));
}

TEST_F(Discovery, RefusesARecordedHostThatIsNone) {
  for (const std::string& xml : {std::string("not xml"), options_.hwloc_xml.substr(0, 300)}) {
    options_.hwloc_xml = xml;
    EXPECT_EQ(discover_node(options_).status().code(), RESHARD_ERR_INVALID_ARGUMENT) << xml;
  }
}

TEST(DiscoveryHere, DescribesThisHostOnceItsNicsHaveASpeed) {
  DiscoverOptions options;
  options.nic_bytes_per_s = 1'250'000'000;
  const Result<DiscoveredNode> found = discover_node(options);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_TRUE(check(found->node).ok());
  EXPECT_EQ(*node_from_text(to_text(found->node)), found->node);
}

}  // namespace
}  // namespace reshard
