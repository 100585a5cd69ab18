// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/topology/data.h"
#include "topology/read/file.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> warnings(const std::string& text) {
  const Result<ClusterSpec> spec = parse_cluster(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? spec->warnings : std::vector<std::string>();
}

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
  EXPECT_EQ(made.nodes[NodeId(0)].name, "n1");
  EXPECT_EQ(made.nodes[NodeId(7)].name, "n8");
  ASSERT_EQ(made.leaves.size(), 4U);
  ASSERT_EQ(made.pods.size(), 2U);
  const std::vector<std::int32_t> blocks = {0, 0, 1, 1, 2, 2, 3, 3};
  for (std::size_t n = 0; n < 8; ++n) EXPECT_EQ(made.nodes[NodeId(n)].block, blocks[n]);
  EXPECT_EQ(made.leaves[LeafId(1)].pod, 0);
  EXPECT_EQ(made.leaves[LeafId(2)].pod, 1);
  EXPECT_EQ(made.leaves[LeafId(2)].up.nominal_bytes_per_s, 16 * 50'000'000'000 / 2);
}

/// The ranks of each domain: blocks of nodes of four GPUs, filled in order.
std::vector<std::size_t> domain_sizes(const Machine& machine) {
  std::vector<std::size_t> sizes;
  for (const Machine::Domain& domain : machine.domains) sizes.push_back(domain.ranks.size());
  return sizes;
}

TEST(SlurmTopology, TakesBlocksAsLeavesWhereNvlinkDoesNotSpanNodes) {
  const std::string text = "hgx-h100:rails=1,topology=" + kData + "blocks.conf";
  const Machine made = machine(text, 32);
  EXPECT_EQ(made.nodes[NodeId(3)].name, "tray04");
  EXPECT_EQ(made.nodes[NodeId(1)].block, 0);
  EXPECT_EQ(made.nodes[NodeId(2)].block, 1);
  EXPECT_EQ(made.pods.size(), 1U);
  EXPECT_EQ(made.domains.size(), 4U);
  EXPECT_THAT(warnings(text), ElementsAre(AllOf(HasSubstr("blocks.conf"), HasSubstr("hgx-h100 does not span nodes"),
                                                HasSubstr("leaf switches"))));
}

TEST(SlurmTopology, TakesBlocksAsDomainsOfAnySizeWhereNvlinkSpansNodes) {
  const std::string text = "gb200-nvl72:topology=" + kData + "uneven_blocks.conf";
  const Machine made = machine(text, 20);
  EXPECT_THAT(domain_sizes(made), ElementsAre(12U, 8U));
  EXPECT_TRUE(made.same_domain(RankId(0), RankId(11)));
  EXPECT_FALSE(made.same_domain(RankId(11), RankId(12)));
  EXPECT_THAT(warnings(text), IsEmpty());
}

TEST(SlurmTopology, ReadsSwitchesAndBlocksOfOneFile) {
  for (const char* file : {"tree_and_blocks.conf", "slurm.yaml"}) {
    const std::string text = "gb200-nvl72:rails=1,topology=" + kData + file;
    const Machine made = machine(text, 16);
    EXPECT_THAT(domain_sizes(made), ElementsAre(12U, 4U)) << file;
    ASSERT_EQ(made.leaves.size(), 2U) << file;  // the third has no nodes
    EXPECT_EQ(made.nodes[NodeId(1)].block, 0) << file;
    EXPECT_EQ(made.nodes[NodeId(2)].block, 1) << file;
    EXPECT_THAT(warnings(text), IsEmpty()) << file;
    const std::string no_domains = "hgx-h100:rails=1,topology=" + kData + file;
    EXPECT_EQ(machine(no_domains, 32).leaves.size(), 2U) << file;
    EXPECT_THAT(warnings(no_domains), ElementsAre(HasSubstr("blocks are left out"))) << file;
  }
}

TEST(SlurmTopology, SaysWhereItLeavesDomainsOpen) {
  // The tree of n1 to n8 has no blocks: NVLink spans as many nodes as in the preset.
  const std::string tree = "gb200-nvl72:topology=" + kData + "topology.conf";
  EXPECT_THAT(warnings(tree), ElementsAre(AllOf(HasSubstr("topology.conf"), HasSubstr("every 18 nodes"))));
  EXPECT_EQ(machine(tree, 32).domains.size(), 1U);
  ClusterSpec spec = *parse_cluster("gb200-nvl72");
  const Result<Places> places =
      read_slurm_conf("SwitchName=s Nodes=a[1-4]\nBlockName=b Nodes=a[1-2]\nBlockName=c Nodes=z\n", "t.conf");
  ASSERT_TRUE(places.ok()) << places.status().message();
  ASSERT_TRUE(apply_places(*places, "t.conf", &spec).ok());
  // a3 and a4 are in no block: alone, and not together.
  EXPECT_THAT(domain_sizes(*make_machine(spec, {16})), ElementsAre(4U, 4U, 8U));
  EXPECT_THAT(spec.warnings, ElementsAre(AllOf(HasSubstr("t.conf: 1 nodes"), HasSubstr("none of its switches")),
                                         HasSubstr("2 of 4 nodes of gb200-nvl72 are in no NVLink domain")));
}

TEST(SlurmYaml, TakesTheDefaultTopology) {
  const std::string blocks = "- topology: a\n  block: {blocks: [{block: b, nodes: 'n[1-2]'}]}\n";
  const std::string tree = "- topology: t\n  tree: {switches: [{switch: s, nodes: 'n[1-3]'}]}\n";
  const std::string other =
      "- topology: u\n  cluster_default: true\n  tree: {switches: [{switch: s, nodes: 'm[1-2]'}]}\n";
  const Result<Places> alone = read_slurm_yaml(blocks, "t.yaml");
  ASSERT_TRUE(alone.ok()) << alone.status().message();
  EXPECT_FALSE(alone->has_switches);
  EXPECT_THAT(alone->warnings, IsEmpty());
  const Result<Places> all = read_slurm_yaml(tree + other + blocks, "t.yaml");
  ASSERT_TRUE(all.ok()) << all.status().message();
  ASSERT_EQ(all->nodes.size(), 2U);
  EXPECT_EQ(all->nodes[0].node, "m1");
  EXPECT_THAT(all->warnings, ElementsAre(AllOf(HasSubstr("t.yaml:1:3: "), HasSubstr("topology t is left out")),
                                         HasSubstr("2 nodes of its blocks")));
  const Result<Places> none_is_default = read_slurm_yaml(blocks + tree, "t.yaml");
  ASSERT_TRUE(none_is_default.ok()) << none_is_default.status().message();
  EXPECT_THAT(none_is_default->warnings, ElementsAre(HasSubstr("topology a is taken")));
  EXPECT_EQ(none_is_default->nodes.size(), 3U);
}

TEST(SlurmYaml, NamesLineAndColumnOfAnError) {
  const auto error = [](const std::string& text) { return read_slurm_yaml(text, "t.yaml").status().message(); };
  EXPECT_THAT(error("a: 1\n"), HasSubstr("t.yaml:1:1: no list of topologies"));
  EXPECT_THAT(error("- topology: x\n  torus: {}\n"), HasSubstr("t.yaml:2:3: unknown key \"torus\""));
  EXPECT_THAT(error("- topology: x\n"), HasSubstr("t.yaml:1:3: give a tree, a block, or flat"));
  EXPECT_THAT(error("- topology: x\n  flat: true\n"), HasSubstr("only flat topologies"));
  EXPECT_THAT(error("- topology: x\n  tree: {switches: [{switch: s, nodes: 'n[1'}]}\n"), HasSubstr("t.yaml:2:40: "));
  EXPECT_THAT(error("- topology: x\n  tree: {switches: [{nodes: n1}]}\n"), HasSubstr("switch is missing"));
  EXPECT_THAT(error("- topology: x\n  block: {blocks: [{block: b, children: c}]}\n"), HasSubstr("no children"));
  EXPECT_THAT(error("- topology: [x\n"), HasSubstr("t.yaml:2:1: "));
}

TEST(SlurmTopology, TakesNoMoreNodesThanAskedFor) {
  EXPECT_EQ(machine("hgx-h100:nodes=2,topology=" + kData + "topology.conf", 16).nodes[NodeId(1)].name, "n2");
  const Result<ClusterSpec> spec = parse_cluster("hgx-h100:nodes=9,topology=" + kData + "topology.conf");
  EXPECT_THAT(spec.status().message(), HasSubstr("9 nodes are asked for, and it names 8"));
  const Result<ClusterSpec> alone = parse_cluster(kData + "topology.conf");
  EXPECT_THAT(alone.status().message(), HasSubstr("PRESET:topology="));
}

TEST(SlurmTopology, LooksUpNamedNodes) {
  ClusterSpec spec = *parse_cluster("hgx-h100:nodes=2");
  spec.groups[0].names = {"n8", "n1"};
  const Places places = *read_places(kData + "topology.conf");
  ASSERT_TRUE(apply_places(places, "t.conf", &spec).ok());
  EXPECT_EQ(spec.places[0].block, 3);
  EXPECT_EQ(spec.places[0].pod, 1);
  EXPECT_EQ(spec.places[1].block, 0);
  spec.places.clear();
  spec.groups[0].names = {"n8", "n9"};
  EXPECT_THAT(apply_places(places, "t.conf", &spec).message(), HasSubstr("t.conf: it does not name node n9"));
}

std::string slurm_error(const std::string& text) {
  return read_slurm_conf(text, "t.conf").status().message();
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
  EXPECT_THAT(slurm_error("SwitchName=a\n"), HasSubstr("t.conf: no nodes"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes\n"), HasSubstr("no Key=Value"));
  EXPECT_THAT(slurm_error("BlockName=a Nodes=n1\nBlockName=b Nodes=n1\n"), HasSubstr("t.conf:2: node n1 is listed"));
  EXPECT_THAT(slurm_error("BlockName=b Switches=a\n"), HasSubstr("t.conf:1: a block has Nodes"));
  EXPECT_THAT(slurm_error("SwitchName=a Nodes=n1\nSwitchName=b Switches=a\nSwitchName=c Switches=a\n"),
              HasSubstr("t.conf:3: a is below two switches"));
  EXPECT_THAT(slurm_error(""), HasSubstr("t.conf: no nodes"));
}

TEST(Topograph, PlacesInstancesByLeafSpineAndDomain) {
  const Machine made = machine("gb200-nvl72:rails=1,topology=" + kData + "topograph.json", 16);
  ASSERT_EQ(made.nodes.size(), 4U);
  // By pod and leaf, in the order in which the file brings these up: leaf-b comes first.
  EXPECT_EQ(made.nodes[NodeId(0)].name, "i-4");
  EXPECT_EQ(made.nodes[NodeId(1)].name, "i-1");
  EXPECT_EQ(made.nodes[NodeId(2)].name, "i-2");
  EXPECT_EQ(made.nodes[NodeId(3)].name, "i-3");
  EXPECT_EQ(made.nodes[NodeId(1)].block, made.nodes[NodeId(2)].block);
  EXPECT_NE(made.nodes[NodeId(0)].block, made.nodes[NodeId(1)].block);
  EXPECT_EQ(made.leaves.size(), 3U);
  EXPECT_EQ(made.pods.size(), 2U);
  EXPECT_TRUE(made.same_domain(RankId(4), RankId(8)));
  EXPECT_TRUE(made.same_domain(RankId(0), RankId(12)));
  EXPECT_FALSE(made.same_domain(RankId(0), RankId(4)));
}

TEST(Topograph, ReadsDomainsOfEveryReleasesLabel) {
  const std::string text = "gb200-nvl72:topology=" + kData + "topograph_labels.json";
  EXPECT_THAT(domain_sizes(machine(text, 12)), ElementsAre(8U, 4U));
  EXPECT_THAT(warnings(text), IsEmpty());
  for (const char* key : {"nvlink", "accelerator", "accelerator.topograph.run/domain", "nvidia.com/gpu.clique",
                          "network.topology.nvidia.com/accelerator"}) {
    const std::string json = std::string(R"({"instances": [{"id": "a", "network_layers": ["l"], "labels": {")") + key +
                             R"(": "x"}}, {"id": "b", "network_layers": ["l"], "labels": {")" + key + R"(": "y"}}]})";
    const Result<Places> places = read_topograph(json, "t.json");
    ASSERT_TRUE(places.ok()) << places.status().message();
    EXPECT_EQ(places->nodes[0].place.domain, 0) << key;
    EXPECT_EQ(places->nodes[1].place.domain, 1) << key;
    EXPECT_THAT(places->warnings, IsEmpty()) << key;
  }
}

TEST(Topograph, WarnsOfLabelsOfAcceleratorsThatItDoesNotUnderstand) {
  // A cloud's name of what kind of GPU it is: all nodes would be one domain.
  const char* json = R"({"instances": [
    {"id": "a", "network_layers": ["l"], "labels": {"k8s.example.com/accelerator": "gpu", "x/NVLink-group": 3}},
    {"id": "b", "network_layers": ["l"], "attributes": {"k8s.example.com/accelerator": "gpu"}}]})";
  const Result<Places> places = read_topograph(json, "t.json");
  ASSERT_TRUE(places.ok()) << places.status().message();
  EXPECT_EQ(places->nodes[0].place.domain, -1);
  EXPECT_THAT(places->warnings, ElementsAre(AllOf(HasSubstr("t.json: "), HasSubstr("k8s.example.com/accelerator of a")),
                                            HasSubstr("x/NVLink-group")));
}

TEST(Topograph, NamesTheInstanceOfAnError) {
  const auto error = [](const std::string& text) { return read_topograph(text, "t.json").status().message(); };
  EXPECT_THAT(error("{}"), HasSubstr("t.json: no list"));
  EXPECT_THAT(error("[1]"), HasSubstr("t.json: no JSON object"));
  EXPECT_THAT(error("{\"a\": 1,\n  oops}"), AllOf(HasSubstr("t.json:2:3: "), HasSubstr("\"oops}\"")));
  EXPECT_THAT(error("{\"a\": 1,\n"), HasSubstr("t.json:2:1: the JSON text ends too early"));
  for (const char* bad : {"{", "{\"a\": \"\xff\"}", "{\"a\": 1e999999}", "{\"a\": \"\\q\"}"}) {
    EXPECT_THAT(error(bad), AllOf(HasSubstr("t.json:1:"), testing::Not(HasSubstr("exception")))) << bad;
  }
  EXPECT_THAT(error(R"({"instances": [{"id": "a", "network_layers": ["l"],
                       "labels": {"accelerator.topograph.run/sub-domain": "x"}}]})"),
              HasSubstr("no domain that it is part of"));
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
