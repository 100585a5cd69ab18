// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/presets.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace reshard {
namespace {

struct Expected {
  const char* name;
  std::size_t num_gpus;
  double link_nominal, link_planned, nic_nominal, nic_planned, pcie_planned, memory;
  std::int32_t domain_nodes;
  std::int32_t multicast;  // thousandths of the link's rate
};

class PresetNumbers : public testing::TestWithParam<Expected> {};

// In bytes per second and direction: data sheets, and what planning counts on, both to half a percent.
TEST_P(PresetNumbers, AreThoseOfTheDataSheetsAndOfPlanning) {
  const Expected& want = GetParam();
  const Result<Preset> preset = find_preset(want.name);
  ASSERT_TRUE(preset.ok()) << preset.status().message();
  EXPECT_EQ(preset->domain_nodes, want.domain_nodes);
  ASSERT_EQ(preset->node.gpus.size(), want.num_gpus);
  ASSERT_EQ(preset->node.ports.size(), want.num_gpus);
  const auto near = [](std::int64_t value, double wanted) {
    EXPECT_NEAR(static_cast<double>(value), wanted, wanted * 0.005);
  };
  for (std::size_t i = 0; i < want.num_gpus; ++i) {
    const NodeType::Gpu& gpu = preset->node.gpus[i];
    EXPECT_EQ(gpu.link_group, 0);
    EXPECT_EQ(gpu.port, static_cast<std::int32_t>(i));
    near(gpu.link.nominal_bytes_per_s, want.link_nominal);
    near(gpu.link.bytes_per_s(), want.link_planned);
    near(gpu.pcie.bytes_per_s(), want.pcie_planned);
    near(gpu.memory.nominal_bytes_per_s, want.memory);
    near(gpu.memory.bytes_per_s(), 0.8 * want.memory);
    EXPECT_EQ(gpu.multicast_permille, want.multicast);
    const NodeType::Port& port = preset->node.ports[i];
    EXPECT_EQ(port.rail, static_cast<std::int32_t>(i));
    near(port_link(port, {}).nominal_bytes_per_s, want.nic_nominal);
    near(port_link(port, {}).bytes_per_s(), want.nic_planned);
  }
  EXPECT_TRUE(check(preset->node).ok());
}

INSTANTIATE_TEST_SUITE_P(All, PresetNumbers,
                         testing::Values(Expected{"dgx-a100", 8, 300e9, 240e9, 25e9, 23e9, 24e9, 2.039e12, 1, 0},
                                         Expected{"hgx-h100", 8, 450e9, 370e9, 50e9, 46e9, 48e9, 3.35e12, 1, 850},
                                         Expected{"hgx-h200", 8, 450e9, 370e9, 50e9, 46e9, 48e9, 4.8e12, 1, 850},
                                         Expected{"hgx-b200", 8, 900e9, 720e9, 50e9, 46e9, 48e9, 7.7e12, 1, 740},
                                         Expected{"gb200-nvl72", 4, 900e9, 720e9, 50e9, 46e9, 48e9, 8.0e12, 18, 740},
                                         Expected{"gb300-nvl72", 4, 900e9, 720e9, 100e9, 92e9, 96e9, 8.0e12, 18, 740}),
                         [](const testing::TestParamInfo<Expected>& param) {
                           std::string name = param.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// A copy of 10 GB/s reads as much as it writes.
TEST(Presets, GiveAProcessOfAHostTheMemoryThatItsCoreCopies) {
  EXPECT_EQ(with_processes(find_preset("host")->node, 2).gpus[1].memory.bytes_per_s(), 20'000'000'000);
  EXPECT_EQ(memory_of_process({kMaxBytesPerS, 1000, 0}).bytes_per_s(), kMaxBytesPerS);  // no more than check() takes
  EXPECT_FALSE(memory_of_process({}).is_limited());
}

TEST(Presets, ListTheKnownOnesWhenAskedForAnother) {
  const Result<Preset> preset = find_preset("hgx-h900");
  ASSERT_FALSE(preset.ok());
  for (const std::string& name : preset_names()) EXPECT_NE(preset.status().message().find(name), std::string::npos);
  EXPECT_EQ(preset_names().size(), 7U);
}

TEST(NodeTypes, KeepTheCableOfADegradedNicAndLowerItsEfficiency) {
  const NodeType::Port port{0, {{"a", {50'000'000'000, 920, 5000}}, {"b", {50'000'000'000, 920, 5000}}}};
  EXPECT_EQ(port_link(port, {}).bytes_per_s(), 92'000'000'000);
  EXPECT_EQ(port_link(port, {500, 1000}).nominal_bytes_per_s, 100'000'000'000);
  EXPECT_EQ(port_link(port, {500, 1000}).bytes_per_s(), 69'000'000'000);
  EXPECT_EQ(port_link(port, {0, 1000}).bytes_per_s(), 46'000'000'000);
  EXPECT_GT(port_link({0, {port.nics[0]}}, {1}).bytes_per_s(), 0);  // 0 would mean no limit
}

TEST(NodeTypes, ComeBackFromTheirTextAsTheyWere) {
  for (const std::string& name : preset_names()) {
    const Result<Preset> preset = find_preset(name);
    ASSERT_TRUE(preset.ok());
    const Result<NodeType> back = node_from_text(to_text(preset->node));
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(*back, preset->node);
    EXPECT_EQ(to_text(*back), to_text(preset->node));
  }
  EXPECT_NE(to_text(find_preset("hgx-h100")->node), to_text(find_preset("hgx-h200")->node));
}

TEST(NodeTypes, RefuseBrokenTexts) {
  NodeType node = find_preset("hgx-h100")->node;
  const std::string good = to_text(node);
  node.gpus[3].port = 8;
  EXPECT_NE(node_from_text(to_text(node)).status().message().find("GPU 3 has port 8 of 8"), std::string::npos);
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{}"), good.substr(0, good.size() - 1),
                                  std::string(100000, '['), std::string("{\"version\": 3}")}) {
    EXPECT_EQ(node_from_text(text).status().code(), RESHARD_ERR_INVALID_ARGUMENT) << text.substr(0, 40);
  }
}

// A rate that planning counts on is 0 where nothing limits, and nowhere else.
TEST(NodeTypes, RefuseLinksSoSlowThatTheyWouldRoundToNoLimit) {
  for (const std::int64_t slow : {-1, 1, 999}) {
    NodeType node = find_preset("hgx-h100")->node;
    node.gpus[3].link.nominal_bytes_per_s = slow;
    EXPECT_NE(check(node).message().find("GPU 3: its link has " + std::to_string(slow) + " bytes"), std::string::npos);
  }
  EXPECT_TRUE((Link{kLeastBytesPerS, 1, 0}).bytes_per_s() > 0);
  EXPECT_FALSE(Link{}.is_limited());
}

TEST(NodeTypes, AreStoredOnce) {
  std::vector<NodeType> types;
  EXPECT_EQ(intern(find_preset("hgx-h100")->node, &types), 0);
  EXPECT_EQ(intern(find_preset("hgx-b200")->node, &types), 1);
  EXPECT_EQ(intern(find_preset("hgx-h100")->node, &types), 0);
  EXPECT_EQ(types.size(), 2U);
}

}  // namespace
}  // namespace reshard
