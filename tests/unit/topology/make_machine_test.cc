// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "topology/cluster.h"
#include "topology/presets.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Machine machine(const std::string& text, const std::vector<std::int32_t>& segments) {
  const Result<ClusterSpec> spec = parse_cluster(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  if (!spec.ok()) return {};
  Result<Machine> made = make_machine(*spec, segments);
  EXPECT_TRUE(made.ok()) << made.status().message();
  return made.ok() ? made.take() : Machine();
}

std::string error(const std::string& text, const std::vector<std::int32_t>& segments) {
  const Result<ClusterSpec> spec = parse_cluster(text);
  if (!spec.ok()) return spec.status().message();
  return make_machine(*spec, segments).status().message();
}

TEST(MakeMachine, StartsEachSegmentOnAFreshNode) {
  const Machine made = machine("hgx-h100", {12, 3});
  ASSERT_EQ(made.num_ranks(), 15);
  EXPECT_EQ(made.name, "hgx-h100");
  ASSERT_EQ(made.nodes.size(), 3U);
  EXPECT_EQ(made.nodes[NodeId(0)].name, "n0001");
  EXPECT_EQ(made.nodes[NodeId(2)].name, "n0003");
  EXPECT_EQ(made.gpus[RankId(7)].node, 0);
  EXPECT_EQ(made.gpus[RankId(11)].node, 1);
  EXPECT_EQ(made.gpus[RankId(12)].node, 2);
  EXPECT_EQ(made.ports.size(), 24U);
  EXPECT_THAT(made.domains[DomainId(1)].ranks, ElementsAre(8, 9, 10, 11));
  EXPECT_THAT(made.domains[DomainId(1)].ports, ElementsAre(8, 9, 10, 11));
}

TEST(MakeMachine, SaysHowManyNodesItTakes) {
  EXPECT_THAT(error("hgx-h100:nodes=3", {16, 16}), HasSubstr("need 4 nodes and there are 3"));
  EXPECT_EQ(error("hgx-h100:nodes=4", {16, 16}), "");
  EXPECT_THAT(error("hgx-h100", {}), HasSubstr("0 ranks"));
  EXPECT_THAT(error("hgx-h100", {8, -1}), HasSubstr("segment of -1"));
}

TEST(MakeMachine, HasOneLeafPerRailAndBlock) {
  const Machine made = machine("hgx-h100:nodes=64,leaf=32,pod=1,oversub=2,oversub2=4", {512});
  ASSERT_EQ(made.leaves.size(), 16U);
  ASSERT_EQ(made.pods.size(), 2U);
  EXPECT_EQ(made.leaves[LeafId(9)].block, 1);
  EXPECT_EQ(made.leaves[LeafId(9)].rail, 1);
  EXPECT_EQ(made.leaves[LeafId(9)].pod, 1);
  EXPECT_EQ(made.leaves[LeafId(9)].up.nominal_bytes_per_s, 32 * 50'000'000'000 / 2);
  EXPECT_EQ(made.leaves[LeafId(9)].down.nominal_bytes_per_s, 32 * 50'000'000'000 / 2);
  EXPECT_EQ(made.pods[PodId(0)].up.nominal_bytes_per_s, 8 * 32 * 50'000'000'000 / 2 / 4);
  EXPECT_EQ(made.nodes[NodeId(31)].block, 0);
  EXPECT_EQ(made.nodes[NodeId(32)].block, 1);
}

TEST(MakeMachine, HasOneLeafPerBlockWithOneRail) {
  const Machine made = machine("hgx-h100:nodes=4,leaf=2,rails=1", {32});
  ASSERT_EQ(made.leaves.size(), 2U);
  EXPECT_EQ(made.leaves[LeafId(0)].rail, -1);
  EXPECT_EQ(made.leaves[LeafId(0)].up.nominal_bytes_per_s, 16 * 50'000'000'000);
  EXPECT_EQ(machine("hgx-h100:nodes=4,leaf=2,rails=4", {32}).leaves.size(), 8U);
}

TEST(MakeMachine, LimitsNoUplinkOfASingleLeafOrPod) {
  const Machine one = machine("hgx-h100:rails=1,oversub=4", {32});
  ASSERT_EQ(one.leaves.size(), 1U);
  EXPECT_EQ(one.leaves[LeafId(0)].up.bytes_per_s(), 0);
  const Machine two = machine("hgx-h100:rails=1,leaf=2,oversub2=4", {32});
  EXPECT_GT(two.leaves[LeafId(0)].up.bytes_per_s(), 0);
  ASSERT_EQ(two.pods.size(), 1U);
  EXPECT_EQ(two.pods[PodId(0)].up.bytes_per_s(), 0);
}

TEST(MakeMachine, JoinsTheTraysOfAnNvlinkDomain) {
  const Machine made = machine("gb200-nvl72:nodes=36", {72, 72});
  ASSERT_EQ(made.domains.size(), 2U);
  EXPECT_EQ(made.domains[DomainId(0)].ranks.size(), 72U);
  EXPECT_TRUE(made.same_domain(RankId(0), RankId(71)));
  EXPECT_FALSE(made.same_domain(RankId(71), RankId(72)));
  EXPECT_EQ(machine("gb200-nvl72:domain=9", {144}).domains.size(), 4U);
}

TEST(MakeMachine, IsolatesRails) {
  const Machine made = machine("hgx-h100:isolated=1", {16});
  EXPECT_TRUE(made.reaches(RankId(3), RankId(11)));
  EXPECT_FALSE(made.reaches(RankId(3), RankId(12)));
  EXPECT_TRUE(machine("hgx-h100", {16}).reaches(RankId(3), RankId(12)));
}

TEST(MakeMachine, KnowsMemoryAsAResourceOfEachRankThatIsOfNoPath) {
  const Machine made = machine("hgx-h100:nodes=2", {16});
  const std::int32_t memory = made.resource(ResourceKind::kMemory, 11);
  EXPECT_EQ(made.kind_of(memory), ResourceKind::kMemory);
  EXPECT_EQ(made.describe(memory), "memory of rank 11 on n0002");
  EXPECT_EQ(made.link_of(memory).bytes_per_s(), 2'680'000'000'000);
  std::vector<std::int32_t> path;
  std::vector<std::int32_t> uses;
  made.append_path(RankId(3), RankId(11), &path);
  made.append_uses(RankId(3), RankId(11), &uses);
  path.push_back(made.resource(ResourceKind::kMemory, 3));
  path.push_back(memory);
  EXPECT_EQ(uses, path);
  uses.clear();
  made.append_uses(RankId(11), RankId(11), &uses);  // a copy
  EXPECT_THAT(uses, ElementsAre(memory, memory));
}

TEST(MakeMachine, TakesMemoryFromTheLine) {
  const auto memory_of = [](const std::string& text) {
    return machine(text, {2}).gpus[RankId(0)].memory.bytes_per_s();
  };
  EXPECT_EQ(memory_of("hgx-h100:memory=1TB"), 800'000'000'000);
  EXPECT_EQ(memory_of("host:ranks=2"), 20'000'000'000);
  EXPECT_EQ(memory_of("host:ranks=2,link=3GB"), 6'000'000'000);  // what a core copies is both
  EXPECT_EQ(memory_of("host:ranks=2,link=3GB,memory=9GB"), 9'000'000'000);
}

TEST(MakeMachine, SlowsADegradedNic) {
  const Machine made = machine("hgx-h100:nodes=2,degraded=n0002/3/0.5", {16});
  EXPECT_EQ(made.ports[PortId(11)].out.bytes_per_s(), 23'000'000'000);
  EXPECT_EQ(made.ports[PortId(11)].in.bytes_per_s(), 23'000'000'000);
  EXPECT_EQ(made.ports[PortId(11)].out.nominal_bytes_per_s, 50'000'000'000);
  EXPECT_EQ(made.ports[PortId(3)].out.bytes_per_s(), 46'000'000'000);
}

TEST(MakeMachine, GivesAGpuWithoutItsNicAnotherOfItsNode) {
  const Machine made = machine("hgx-h100:nodes=2,degraded=n0001/mlx5_2/0", {16});
  EXPECT_EQ(made.ports.size(), 15U);
  EXPECT_EQ(made.gpus[RankId(2)].port, made.gpus[RankId(0)].port);
  EXPECT_EQ(made.gpus[RankId(3)].port, 2);
  EXPECT_EQ(made.ports[PortId(2)].name, "mlx5_3");
  EXPECT_EQ(made.gpus[RankId(10)].port, 9);
  // The second that loses its NIC takes another than the first.
  const Machine two = machine("hgx-h100:degraded=n0001/2/0+n0001/3/0", {8});
  EXPECT_NE(two.gpus[RankId(2)].port, two.gpus[RankId(3)].port);
  // Without any it is cut off.
  EXPECT_EQ(machine("host:ranks=2,nodes=2,degraded=n0001/0/0", {4}).gpus[RankId(0)].port, -1);
}

TEST(MakeMachine, RefusesToDegradeWhatIsNotThere) {
  EXPECT_THAT(error("hgx-h100:nodes=2,degraded=n0003/0/0.5", {8}), HasSubstr("no node n0003"));
  EXPECT_THAT(error("hgx-h100:nodes=2,degraded=n0002/8/0.5", {8}), HasSubstr("8 NICs and none is 8"));
  EXPECT_THAT(error("hgx-h100:nodes=2,degraded=n0002/ib0/0.5", {8}), HasSubstr("none is ib0"));
  EXPECT_THAT(error("hgx-h100:degraded=n0001/0/1.5", {8}), HasSubstr("above 1"));
  EXPECT_EQ(error("hgx-h100:nodes=2,degraded=n0002/0/0.5", {8}), "");  // a node without ranks
}

TEST(MakeMachine, DescribesHostsWithSharedMemory) {
  const Machine made = machine("host:nodes=2,ranks=4,nic=1gbit,link=5GB", {4, 4});
  ASSERT_EQ(made.num_ranks(), 8);
  ASSERT_EQ(made.domains.size(), 2U);
  EXPECT_EQ(made.gpus[RankId(0)].link.bytes_per_s(), 5'000'000'000);
  EXPECT_EQ(made.ports[PortId(0)].out.bytes_per_s(), 125'000'000);
  EXPECT_EQ(made.gpus[RankId(0)].pcie.bytes_per_s(), 0);
  EXPECT_EQ(made.leaves.size(), 1U);
  const Machine nics = machine("host:nodes=2,ranks=4,nic=1000000000,nics=2", {8});
  EXPECT_EQ(nics.ports.size(), 4U);
  EXPECT_EQ(nics.ports[PortId(0)].out.bytes_per_s(), 125'000'000);
  EXPECT_EQ(nics.gpus[RankId(1)].port, 0);
  EXPECT_EQ(nics.gpus[RankId(2)].port, 1);
  EXPECT_TRUE(nics.reaches(RankId(0), RankId(6)));
}

TEST(ClusterText, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(error("hgx-h100:nods=3", {8}), testing::AllOf(HasSubstr("\"nods\""), HasSubstr("nodes, domain")));
  EXPECT_THAT(error("hgx-h900:nodes=3", {8}), testing::AllOf(HasSubstr("hgx-h900"), HasSubstr("hgx-h100, hgx-h200")));
  EXPECT_THAT(error("hgx-h100:nodes=3,nodes=4", {8}), HasSubstr("nodes is given twice"));
  EXPECT_THAT(error("hgx-h100:nodes=", {8}), HasSubstr("nodes has no value"));
  EXPECT_THAT(error("hgx-h100:nodes=0", {8}), HasSubstr("nodes is \"0\""));
  EXPECT_THAT(error("hgx-h100:oversub=0", {8}), HasSubstr("oversub"));
  EXPECT_THAT(error("hgx-h100:ranks=4", {8}), HasSubstr("host only"));
  EXPECT_THAT(error("host:nodes=2", {8}), HasSubstr("ranks=N"));
  EXPECT_THAT(error("host:ranks=2,nic=fast", {8}), HasSubstr("\"fast\""));
  EXPECT_THAT(error("nowhere.yaml", {8}), HasSubstr("nowhere.yaml"));
}

TEST(ClusterText, NamesTheUnitsOfSpeeds) {
  for (const char* bad : {"400gbps", "400Gbit", "fast", "1", "-1GB", "200TB"}) {
    EXPECT_THAT(
        error(std::string("hgx-h100:nic=") + bad, {8}),
        testing::AllOf(HasSubstr(std::string("nic is \"") + bad), HasSubstr("kbit, mbit, gbit, tbit, kB, MB, GB, TB"),
                       HasSubstr("a plain number is in bits")));
  }
  EXPECT_THAT(error("hgx-h100:link=fast", {8}), HasSubstr("a plain number is in bytes"));
  EXPECT_THAT(error("hgx-h100:nodes=2,,leaf=1", {8}), HasSubstr("nothing between two commas"));
  EXPECT_THAT(error("hgx-h100:,nodes=2", {8}), HasSubstr("nothing between two commas"));
}

// Texts of a few dozen bytes that ask for much. What is refused is refused before anything is made of it: the process's
// memory shows it, where a clock would depend on the machine.
TEST(ClusterText, IsCountedBeforeAnythingIsMadeOfIt) {
  const auto resident_kib = [] {
    struct rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const auto before = resident_kib();
  EXPECT_THAT(error("hgx-h100:nodes=1048576,degraded=x/0/0.5", {8}), HasSubstr("no node x;"));
  EXPECT_THAT(error("hgx-h100:nodes=1048576,degraded=n1048577/0/0.5", {8}), HasSubstr("no node n1048577"));
  EXPECT_THAT(error("hgx-h100:nodes=1048576,degraded=n01/0/0.5", {8}), HasSubstr("no node n01;"));
  EXPECT_THAT(error("hgx-h100:nodes=1048576,degraded=n1048576/9/0.5", {8}), HasSubstr("none is 9"));
  EXPECT_EQ(error("hgx-h100:nodes=1048576,degraded=n1048576/0/0.5", {8}), "");
  EXPECT_THAT(error("hgx-h100:nodes=500000", {1 << 22}), HasSubstr("need 524288 nodes and there are 500000"));
  EXPECT_THAT(error("host:ranks=1,nics=4096", {1 << 20}), HasSubstr("4294967296 ports"));
  EXPECT_THAT(error("hgx-h100:degraded=n0002/0/0.5", {8}), HasSubstr("no node n0002"));
  EXPECT_LT(resident_kib() - before, 16 * 1024);
}

TEST(ClusterText, OverridesTheSpeedOfNics) {
  EXPECT_EQ(machine("gb200-nvl72:nic=800gbit", {4}).ports[PortId(0)].out.nominal_bytes_per_s, 100'000'000'000);
  EXPECT_EQ(machine("hgx-h100:ecmp=0.9,leaf=1", {16}).leaves[LeafId(0)].up.bytes_per_s(), 45'000'000'000);
}

std::vector<NodeOfRank> two_nodes_of_two() {
  const std::string text = to_text(find_preset("hgx-h100")->node);
  return {{"a", text, 0, ""}, {"b", text, 5, ""}, {"a", text, 1, ""}, {"b", text, 0, ""}};
}

TEST(MachineFromNodes, PutsRanksWhereTheySayTheyAre) {
  std::vector<NodeOfRank> ranks = two_nodes_of_two();
  const Result<Machine> made = make_machine_from_nodes(ranks);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made->nodes[NodeId(1)].name, "b");
  EXPECT_EQ(made->gpus[RankId(1)].node, 1);
  EXPECT_EQ(made->ports[PortId(made->gpus[RankId(1)].port)].rail, 5);
  EXPECT_TRUE(made->same_domain(RankId(0), RankId(2)));
  EXPECT_FALSE(made->same_domain(RankId(0), RankId(1)));
  for (NodeOfRank& rank : ranks) rank.domain_id = "rack 7";
  EXPECT_TRUE(make_machine_from_nodes(ranks)->same_domain(RankId(0), RankId(1)));
}

TEST(MachineFromNodes, GivesProcessesOfAHostItsMemory) {
  NodeType host = find_preset("host")->node;
  host.gpus.clear();
  const std::string text = to_text(host);
  const Result<Machine> made = make_machine_from_nodes({{"a", text, 0, ""}, {"a", text, 1, ""}, {"b", text, 0, ""}});
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_TRUE(made->same_domain(RankId(0), RankId(1)));
  EXPECT_FALSE(made->same_domain(RankId(0), RankId(2)));
  EXPECT_EQ(made->gpus[RankId(1)].link.bytes_per_s(), 10'000'000'000);
  EXPECT_EQ(made->gpus[RankId(1)].port, 0);
}

TEST(MachineFromNodes, RefusesWhatContradicts) {
  const auto refused = [](const auto& change) {
    std::vector<NodeOfRank> ranks = two_nodes_of_two();
    change(&ranks);
    return make_machine_from_nodes(ranks).status().message();
  };
  using Ranks = std::vector<NodeOfRank>*;
  EXPECT_THAT(refused([](Ranks r) { r->at(2).local_index = 0; }), HasSubstr("rank 2 on host a: index 0 is another"));
  EXPECT_THAT(refused([](Ranks r) { r->at(2).local_index = 8; }), HasSubstr("host a has 8 GPUs"));
  EXPECT_THAT(refused([](Ranks r) { r->at(2).text = "{}"; }), HasSubstr("rank 2 describes host a otherwise"));
  EXPECT_THAT(refused([](Ranks r) { r->at(2).domain_id = "x"; }), HasSubstr("domain"));
  EXPECT_THAT(refused([](Ranks r) { *r = {{"a", "{}", 0, ""}}; }), HasSubstr("host a: node text"));
  EXPECT_THAT(refused([](Ranks r) { r->clear(); }), HasSubstr("0 ranks"));
}

}  // namespace
}  // namespace reshard
