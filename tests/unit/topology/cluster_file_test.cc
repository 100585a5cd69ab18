// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/topology/data.h"
#include "topology/read/node_list.h"
#include "topology/read/number.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ClusterSpec recorded(const std::string& name) {
  Result<ClusterSpec> spec = parse_cluster(kData + name);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? spec.take() : ClusterSpec();
}

TEST(ClusterFile, DescribesNodesOfSeveralKinds) {
  const ClusterSpec spec = recorded("cluster.yaml");
  EXPECT_EQ(spec.name, "cluster.yaml");
  ASSERT_EQ(spec.groups.size(), 3U);
  const Result<Machine> machine = make_machine(spec, {32, 16, 12});
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  ASSERT_EQ(machine->nodes.size(), 9U);
  EXPECT_EQ(machine->nodes[NodeId(3)].name, "n0004");
  EXPECT_EQ(machine->nodes[NodeId(4)].name, "n0005");  // not named by the file: by its place
  EXPECT_EQ(machine->nodes[NodeId(7)].name, "s7");
  EXPECT_EQ(machine->nodes[NodeId(8)].block, 4);
  // The explicit servers: two pairs, each with a port; the second pair of s7 lost its NIC and takes the other port.
  const Machine::Gpu& first = machine->gpus[RankId(48)];
  EXPECT_EQ(first.link, (Link{100'000'000'000, 900, 4000}));
  EXPECT_EQ(first.pcie.nominal_bytes_per_s, 31'500'000'000);
  EXPECT_EQ(first.memory, (Link{2'000'000'000'000, 900, 0}));
  EXPECT_EQ(first.multicast_permille, 850);
  EXPECT_FALSE(machine->gpus[RankId(50)].memory.is_limited());  // not said
  EXPECT_EQ(machine->gpus[RankId(50)].multicast_permille, 0);
  EXPECT_EQ(machine->gpus[RankId(0)].memory, (Link{3'000'000'000'000, 800, 0}));  // another than the preset's
  EXPECT_EQ(machine->gpus[RankId(0)].multicast_permille, 0);
  const Machine::Port& port = machine->ports[PortId(first.port)];
  EXPECT_EQ(port.name, "ib0+ib1");
  EXPECT_EQ(port.out, (Link{50'000'000'000, 910, 5000}));
  EXPECT_EQ(machine->gpus[RankId(50)].link, (Link{100'000'000'000, 800, 2000}));
  EXPECT_EQ(machine->ports[PortId(machine->gpus[RankId(50)].port)].out.latency_ns, 700);
  EXPECT_FALSE(machine->same_domain(RankId(48), RankId(50)));
  EXPECT_NE(machine->gpus[RankId(48)].port, machine->gpus[RankId(50)].port);
  EXPECT_EQ(machine->gpus[RankId(52)].port, machine->gpus[RankId(54)].port);
  EXPECT_EQ(machine->ports[PortId(11)].out.bytes_per_s(), 23'000'000'000);
}

TEST(ClusterFile, SetsTheFabric) {
  const Fabric& fabric = recorded("cluster.yaml").fabric;
  EXPECT_EQ(fabric.leaf_nodes, 2);
  EXPECT_EQ(fabric.leaves_per_pod, 2);
  EXPECT_EQ(fabric.leaf_oversubscription_permille, 2000);
  EXPECT_EQ(fabric.pod_oversubscription_permille, 1500);
  EXPECT_EQ(fabric.uplink_efficiency_permille, 900);
}

TEST(ClusterFile, MayBeJsonAndNameATopology) {
  const ClusterSpec spec = recorded("cluster.json");
  const Result<Machine> machine = make_machine(spec, {32});
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  EXPECT_EQ(machine->nodes[NodeId(5)].name, "n6");
  EXPECT_EQ(machine->nodes[NodeId(5)].block, 2);
  EXPECT_EQ(machine->pods.size(), 2U);
  EXPECT_EQ(machine->domains.size(), 2U);
  EXPECT_TRUE(machine->rail_isolated);
  EXPECT_EQ(machine->ports[PortId(0)].out.nominal_bytes_per_s, 100'000'000'000);
}

struct BadFile {
  const char* text;
  const char* where;  // "line:column"
  const char* message;
};

void PrintTo(const BadFile& bad, std::ostream* out) {
  *out << bad.text;
}

class BadClusterFile : public testing::TestWithParam<BadFile> {};

TEST_P(BadClusterFile, NamesLineColumnAndKey) {
  const Result<ClusterSpec> spec = read_cluster_yaml(GetParam().text, "c.yaml");
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(spec.status().message(), AllOf(testing::StartsWith(std::string("c.yaml:") + GetParam().where + ": "),
                                             HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadClusterFile,
    testing::Values(
        BadFile{"clusters:\n  - {type: hgx-h100, nods: 3}\n", "2:22", "unknown key \"nods\" in a cluster"},
        BadFile{"clusters:\n  - {type: hgx-h900}\n", "2:12", "hgx-h900"},
        BadFile{"clusters:\n  - {nodes: 3}\n", "2:5", "type is missing"},
        BadFile{"clusters:\n  - {type: hgx-h100, nodes: [3]}\n", "2:29", "nodes is a list"},
        BadFile{"clusters:\n  - {type: hgx-h100, nodes: 'n[3-1]'}\n", "2:29", "ends before it starts"},
        BadFile{"clusters:\n  - {type: hgx-h100}\n  - {type: hgx-h100}\n", "3:5", "only the last may"},
        BadFile{"clusters: 3\n", "1:11", "clusters is a single value"}, BadFile{"clusters: []\n", "1:11", "no cluster"},
        BadFile{"fabric: {}\n", "1:1", "clusters is missing"}, BadFile{"- 1\n", "1:1", "hgx-h100:topology=FILE"},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  rails: eight\n", "3:10", "\"eight\""},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  rail_isolated: 1\n", "3:18", "give true or false"},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  oversubscription: [1, 2, 3]\n", "3:21", "3 values"},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  oversubscription: 0\n", "3:21", "oversubscription"},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  degraded: [{node: a, nic: 0, fraction: 2}]\n", "3:42",
                "fraction"},
        BadFile{"clusters: [{type: hgx-h100}]\nfabric:\n  degraded: [{node: a, nic: 0}]\n", "3:14",
                "fraction is missing"},
        BadFile{"clusters: [{type: hgx-h100}]\nclusters: [{type: hgx-h100}]\n", "2:1", "clusters is given twice"},
        BadFile{"node_types:\n  x: {preset: hgx-h900}\nclusters: [{type: x}]\n", "2:15", "hgx-h900"},
        BadFile{"node_types:\n  x: {preset: hgx-h100, gpus: []}\nclusters: [{type: x}]\n", "2:6", "without preset"},
        BadFile{"node_types:\n  x: {}\nclusters: [{type: x}]\n", "2:6", "give preset"},
        BadFile{"node_types:\n  x: {preset: hgx-h100, ranks: 2}\n", "2:32", "host only"},
        BadFile{"node_types:\n  x: {gpus: [{link: fast}]}\n", "2:21", "\"fast\""},
        BadFile{"node_types:\n  x: {preset: hgx-h100, multicast: 2}\n", "2:36", "multicast"},
        BadFile{"node_types:\n  x: {gpus: [{link: 1GB, memory_efficiency: 0}]}\n", "2:45", "memory_efficiency"},
        BadFile{"node_types:\n  x: {gpus: [{link: 1GB}], nics: [{speed: 1gbit, gpus: [1]}]}\n", "2:57",
                "gpus is \"1\""},
        BadFile{"node_types:\n  x: {gpus: [{link: 1GB}], nics: [{speed: 1gbit}, {speed: 1gbit}]}\n", "2:51",
                "more NICs"},
        BadFile{"node_types:\n  x:\n    gpus: [{link: 1GB}]\n    nics:\n      - {speed: 1gbit, gpus: [0], rail: 0}\n"
                "      - {speed: 1gbit, gpus: [0], rail: 1}\n",
                "6:9", "different rails"},
        BadFile{"node_types:\n  x:\n    gpus: [{link: 1GB, count: 2}]\n    nics:\n      - {speed: 1gbit, gpus: [0]}\n"
                "      - {speed: 1gbit, gpus: [0, 1]}\n",
                "6:9", "GPU 0 is served"},
        BadFile{"node_types:\n  x: {nccl_xml: no_such.xml}\n", "2:17", "no_such.xml"},
        BadFile{"clusters: [{type: hgx-h100}\n", "2:1", ""}, BadFile{"a: b: c\n", "1:5", ""},
        BadFile{"clusters: &x [*x]\n", "1:15", "alias"}),
    [](const testing::TestParamInfo<BadFile>& param) { return "case" + std::to_string(param.index); });

TEST(ClusterFileErrors, ComeForNestingWithoutEnd) {
  std::vector<std::string> texts = {std::string(1'000'000, '['), std::string(1'000'000, '{')};
  std::string blocks;
  std::string dashes;
  for (int i = 0; i < 3000; ++i) blocks += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  for (int i = 0; i < 100000; ++i) dashes += "- ";
  texts.insert(texts.end(), {blocks, dashes + "x\n", "a\n---\nb\n", std::string(9'000'000, 'a'), ""});
  for (const std::string& text : texts) {
    const Result<ClusterSpec> spec = read_cluster_yaml(text, "c.yaml");
    EXPECT_EQ(spec.status().code(), RESHARD_ERR_INVALID_ARGUMENT) << text.substr(0, 20);
    EXPECT_THAT(spec.status().message(), HasSubstr("c.yaml"));
  }
}

// As UTF-16 they would nest past the checks that a parser with recursion needs.
TEST(ClusterFileErrors, ComeForTextsThatAreNotUtf8) {
  for (const std::string& text : {std::string("\xff\xfe"
                                              "abc"),
                                  std::string("\xfe\xff"
                                              "a"),
                                  std::string("a\0b", 3)}) {
    EXPECT_THAT(read_cluster_yaml(text, "c.yaml").status().message(), HasSubstr("not a text in UTF-8"));
  }
}

TEST(ClusterFileErrors, ComeForSecondDocuments) {
  const std::string one = "clusters: [{type: hgx-h100}]\n";
  EXPECT_TRUE(read_cluster_yaml(one, "c.yaml").ok());
  // yaml-cpp 0.7 takes the stray comma for documents without end.
  for (const std::string& text : {one + "---\n" + one, std::string("{\"clusters\": []},")}) {
    EXPECT_THAT(read_cluster_yaml(text, "c.yaml").status().message(), HasSubstr("second document")) << text;
  }
}

TEST(NodeLists, ExpandAsSlurmWritesThem) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(*expand_node_list("n[1-3,7]"), (Names{"n1", "n2", "n3", "n7"}));
  EXPECT_EQ(*expand_node_list("n[008-011],login"), (Names{"n008", "n009", "n010", "n011", "login"}));
  EXPECT_EQ(*expand_node_list("r[1-2]n[1-2]x"), (Names{"r1n1x", "r1n2x", "r2n1x", "r2n2x"}));
  for (const char* bad :
       {"", "a,", "n[1-", "n]1[", "n[[1]]", "n[3-1]", "n[a-b]", "n[1-99999999]", "n[1-2000][1-2000]", "n[]"}) {
    EXPECT_FALSE(expand_node_list(bad).ok()) << bad;
  }
}

TEST(NodeLists, AreCountedBeforeTheyAreExpanded) {
  EXPECT_EQ(expand_node_list("n[1-131072]")->size(), std::size_t{1} << 17U);
  for (const char* much : {"n[1-131073]", "n[1-131072],m", "n[0-999999999999]", "a[1-999999999999,1-999999999999]",
                           "a[1-9999][1-9999][1-9999][1-9999][1-9999][1-9999]"}) {
    EXPECT_THAT(expand_node_list(much).status().message(), HasSubstr("more than 131072 names")) << much;
  }
  EXPECT_THAT(expand_node_list("n[1-3]", 2).status().message(), HasSubstr("more than 2 names"));
}

TEST(Numbers, AreReadExactly) {
  EXPECT_EQ(*parse_decimal("0.5", 1000, "x"), 500);
  EXPECT_EQ(*parse_decimal("3.35e12", 1, "x"), 3'350'000'000'000);
  EXPECT_EQ(*parse_decimal("0.9999", 1000, "x"), 999);
  EXPECT_EQ(*parse_decimal("1e-3", 1000, "x"), 1);
  EXPECT_EQ(*parse_decimal("0", 1000, "x"), 0);
  EXPECT_EQ(*parse_bytes_per_s("400gbit", false, "x"), 50'000'000'000);
  EXPECT_EQ(*parse_bytes_per_s("8000000000", true, "x"), 1'000'000'000);
  EXPECT_EQ(*parse_bytes_per_s("50e9", false, "x"), 50'000'000'000);
  EXPECT_EQ(*parse_bytes_per_s("1.5GB", true, "x"), 1'500'000'000);
  for (const char* bad :
       {"", ".", "-1", "1e", "1e99", "1.2.3", "0x10", "1 ", "1e16", "99999999999999999999999999999999"}) {
    EXPECT_FALSE(parse_decimal(bad, 1, "x").ok()) << bad;
  }
  EXPECT_THAT(parse_integer("7", 1, 3, "n").status().message(), HasSubstr("n is \"7\"; give an integer from 1 to 3"));
}

}  // namespace
}  // namespace reshard
