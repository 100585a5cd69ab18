// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "topology/read/file.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kData = RESHARD_TEST_DATA "/topology/";

Machine machine(const std::string& text, std::int32_t num_ranks) {
  const Result<ClusterSpec> spec = parse_cluster(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  if (!spec.ok()) return {};
  Result<Machine> made = make_machine(*spec, {num_ranks});
  EXPECT_TRUE(made.ok()) << made.status().message();
  return made.ok() ? made.take() : Machine();
}

TEST(SlurmTopology, PlacesTheNodesOfAPreset) {
  const Machine made = machine("hgx-h100:rails=1,oversub=2,topology=" + kData + "topology.conf", 64);
  ASSERT_EQ(made.nodes.size(), 8U);
  EXPECT_EQ(made.nodes[0].name, "n1");
  EXPECT_EQ(made.nodes[7].name, "n8");
  ASSERT_EQ(made.leaves.size(), 4U);
  ASSERT_EQ(made.pods.size(), 2U);
  const std::vector<std::int32_t> blocks = {0, 0, 1, 1, 2, 2, 3, 3};
  for (std::size_t n = 0; n < 8; ++n) EXPECT_EQ(made.nodes[n].block, blocks[n]);
  EXPECT_EQ(made.leaves[1].pod, 0);
  EXPECT_EQ(made.leaves[2].pod, 1);
  EXPECT_EQ(made.leaves[2].up.nominal_bytes_per_s, 16 * 50'000'000'000 / 2);
}

TEST(SlurmTopology, ReadsBlocks) {
  const Machine made = machine("hgx-h100:rails=1,topology=" + kData + "blocks.conf", 32);
  EXPECT_EQ(made.nodes[3].name, "tray04");
  EXPECT_EQ(made.nodes[1].block, 0);
  EXPECT_EQ(made.nodes[2].block, 1);
  EXPECT_EQ(made.pods.size(), 1U);
}

TEST(SlurmTopology, TakesNoMoreNodesThanAskedFor) {
  EXPECT_EQ(machine("hgx-h100:nodes=2,topology=" + kData + "topology.conf", 16).nodes[1].name, "n2");
  const Result<ClusterSpec> spec = parse_cluster("hgx-h100:nodes=9,topology=" + kData + "topology.conf");
  EXPECT_THAT(spec.status().message(), HasSubstr("9 nodes are asked for, and it names 8"));
  const Result<ClusterSpec> alone = parse_cluster(kData + "topology.conf");
  EXPECT_THAT(alone.status().message(), HasSubstr("PRESET:topology="));
}

TEST(SlurmTopology, LooksUpNamedNodes) {
  ClusterSpec spec = *parse_cluster("hgx-h100:nodes=2");
  spec.groups[0].names = {"n8", "n1"};
  const std::vector<NamedPlace> places = *read_places(kData + "topology.conf");
  ASSERT_TRUE(apply_places(places, "t.conf", &spec).ok());
  EXPECT_EQ(spec.places[0].block, 3);
  EXPECT_EQ(spec.places[0].pod, 1);
  EXPECT_EQ(spec.places[1].block, 0);
  spec.places.clear();
  spec.groups[0].names = {"n8", "n9"};
  EXPECT_THAT(apply_places(places, "t.conf", &spec).message(), HasSubstr("t.conf: it does not name node n9"));
}

std::string slurm_error(const std::string& text) {
  return read_slurm_topology(text, "t.conf").status().message();
}

TEST(SlurmTopology, NamesTheLineOfAnError) {
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\n\nSwitchName=b Nodes=n[1-2]\n"),
              HasSubstr("t.conf:3: node n1 is listed twice"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\nSwitchName=b Switches=c\n"),
              HasSubstr("t.conf:2: there is no switch c"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2\n"), HasSubstr("t.conf:2: a is named twice"));
  EXPECT_THAT(slurm_error("# x\nSwitchName=a Nods=n1\n"), AllOf(HasSubstr("t.conf:2:"), HasSubstr("\"Nods\"")));
  EXPECT_THAT(slurm_error("SwitchName=a \\\nNodes=n[1\n"), AllOf(HasSubstr("t.conf:1:"), HasSubstr("brackets")));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1 Switches=b\n"), HasSubstr("one of them"));
  EXPECT_THAT(slurm_error("Nodes=n1\n"), HasSubstr("give a SwitchName"));
  EXPECT_THAT(slurm_error("SwitchName=a\n"), HasSubstr("t.conf:1:"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes\n"), HasSubstr("no Key=Value"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\nBlockName=b Nodes=n2\n"), HasSubstr("t.conf:2: switches and blocks"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\nSwitchName=b Switches=a\nSwitchName=c Switches=a\n"),
              HasSubstr("t.conf:3: a is below two switches"));
  EXPECT_THAT(slurm_error(""), HasSubstr("t.conf: no nodes"));
}

TEST(Topograph, PlacesInstancesByLeafSpineAndDomain) {
  const Machine made = machine("gb200-nvl72:rails=1,topology=" + kData + "topograph.json", 16);
  ASSERT_EQ(made.nodes.size(), 4U);
  // By pod and leaf, in the order in which the file brings these up: leaf-b comes first.
  EXPECT_EQ(made.nodes[0].name, "i-4");
  EXPECT_EQ(made.nodes[1].name, "i-1");
  EXPECT_EQ(made.nodes[2].name, "i-2");
  EXPECT_EQ(made.nodes[3].name, "i-3");
  EXPECT_EQ(made.nodes[1].block, made.nodes[2].block);
  EXPECT_NE(made.nodes[0].block, made.nodes[1].block);
  EXPECT_EQ(made.leaves.size(), 3U);
  EXPECT_EQ(made.pods.size(), 2U);
  EXPECT_TRUE(made.same_domain(4, 8));
  EXPECT_TRUE(made.same_domain(0, 12));
  EXPECT_FALSE(made.same_domain(0, 4));
}

TEST(Topograph, NamesTheInstanceOfAnError) {
  const auto error = [](const std::string& text) { return read_topograph(text, "t.json").status().message(); };
  EXPECT_THAT(error("{}"), HasSubstr("t.json: no list"));
  EXPECT_THAT(error("[1"), HasSubstr("t.json: no JSON object"));
  EXPECT_THAT(error(R"({"instances": [{"id": 3}]})"), HasSubstr("t.json: instance 0: has no id"));
  EXPECT_THAT(error(R"({"instances": [{"id": "a"}]})"), HasSubstr("a has no network_layers"));
  EXPECT_THAT(error(R"({"instances": [{"id": "a", "network_layers": [1]}]})"), HasSubstr("no name"));
  EXPECT_THAT(error(R"({"instances": [{"id": "a", "network_layers": ["l"], "attributes": {"nvlink": 1}}]})"),
              HasSubstr("accelerator domain"));
  EXPECT_THAT(error(R"({"instances": [{"id": "a", "network_layers": ["l"]}, {"id": "a", "network_layers": ["l"]}]})"),
              HasSubstr("instance 1: a is listed twice"));
  EXPECT_THAT(
      error(R"({"instances": [{"id": "a", "network_layers": ["l", "s"]}, {"id": "b", "network_layers": ["l", "t"]}]})"),
      HasSubstr("instance 1: b puts its leaf"));
  EXPECT_THAT(error(std::string(1'000'000, '[')), HasSubstr("nested too deep"));
}

}  // namespace
}  // namespace reshard
