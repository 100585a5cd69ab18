// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "topology/host.h"

namespace reshard {
namespace {

std::string recorded_host() {
  std::ifstream file(RESHARD_TEST_DATA "/host_gpu_nic.xml");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(HostFromXml, FindsCoresCachesNicsAndGpusButNoManagementScreen) {
  const std::string xml = recorded_host();
  ASSERT_FALSE(xml.empty());
  const Result<HostInfo> host = host_from_xml(xml);
  ASSERT_TRUE(host.ok()) << host.status().message();
  EXPECT_EQ(host->hostname, "invented");
  EXPECT_EQ(host->num_cores, 4);
  EXPECT_EQ(host->num_numa_nodes, 2);
  EXPECT_EQ(host->l3_bytes, 33554432);
  EXPECT_EQ(host->nics, (std::vector<std::string>{"eth7", "mlx5_7"}));
  EXPECT_EQ(host->gpus, (std::vector<std::string>{"0000:12:00.0 10de:2330"}));
}

TEST(HostFromXml, RefusesWhatIsNoTopology) {
  for (const std::string& xml : {std::string(), std::string("not xml"), recorded_host().substr(0, 300)}) {
    EXPECT_EQ(host_from_xml(xml).status().code(), RESHARD_ERR_INVALID_ARGUMENT) << xml;
  }
}

TEST(HostDiscovery, DescribesThisHost) {
  const Result<HostInfo> host = discover_host();
  ASSERT_TRUE(host.ok()) << host.status().message();
  char name[256] = {};
  ASSERT_EQ(gethostname(name, sizeof(name) - 1), 0);
  EXPECT_EQ(host->hostname, name);
  EXPECT_GE(host->num_cores, 1);
  EXPECT_LE(host->num_cores, static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)));
  EXPECT_GE(host->num_numa_nodes, 1);
}

}  // namespace
}  // namespace reshard
