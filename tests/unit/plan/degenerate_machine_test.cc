// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "src/plan/estimate.h"
#include "src/plan/report/details.h"
#include "src/plan/report/simulate_plan.h"
#include "tests/unit/plan/hand_machine.h"
#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using testing::hand_machine;
using testing::HandRank;
using testing::kMega;
using testing::options_for;
using testing::plan_tp;
using testing::replicate;

double bound_of(const Estimate& estimate, const std::string& name) {
  for (const Bound& bound : estimate.bounds) {
    if (bound.name == name) return bound.seconds;
  }
  return -1;
}

std::int64_t load(const Plan& plan, ResourceKind kind, std::int32_t index) {
  const std::vector<std::int64_t> loads = loads_of(plan);
  return at(loads, plan.options.machine->resource(kind, index));
}

std::int64_t network_load(const Plan& plan) {
  std::int64_t sum = 0;
  for (std::size_t p = 0; p < plan.options.machine->ports.size(); ++p) {
    sum += load(plan, ResourceKind::kNicIn, static_cast<std::int32_t>(p));
  }
  return sum;
}

TEST(DegenerateMachineTest, InOneDomainNothingCrossesTheNetwork) {
  const Machine machine = hand_machine({{0, 0}, {0, 1}, {0, 2, 2 * kMega}, {0, 3, 2 * kMega}});
  const Plan plan = replicate(machine, {0, 1}, {2, 3}, 8 * kMega);
  const Estimate found = *estimate(plan);
  EXPECT_EQ(network_load(plan), 0);
  EXPECT_EQ(bound_of(found, "LB2 domain ingress"), 0);
  EXPECT_EQ(bound_of(found, "LB3 domain egress"), 0);
  const double of_links = bound_of(found, "LB9 prices");  // all that is busy; sought no nearer than 1 %
  EXPECT_LE(of_links, 8.0 / 8);
  EXPECT_GE(of_links, 0.99 * 8.0 / 8);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB1 gpu ingress"), 8.0 / 8);  // nothing reaches the port
  EXPECT_DOUBLE_EQ(bound_of(found, "LB7 domain links and ports"), 8.0 / 8);
  EXPECT_NEAR(found.seconds - found.fill_seconds, 1.0, 1e-9);  // 8 MB into each destination at 8 MB/s
}

TEST(DegenerateMachineTest, RanksThatAreDomainsPassOneCopyOn) {
  const Machine machine = hand_machine({{0}, {1}, {2}, {3}});
  const Plan plan = replicate(machine, {0}, {1, 2, 3});
  const Estimate found = *estimate(plan);
  EXPECT_EQ(network_load(plan), 3 * 2 * kMega);
  EXPECT_EQ(load(plan, ResourceKind::kNicOut, 0), 2 * kMega);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB2 domain ingress"), 2.0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB3 domain egress"), 2.0);
  EXPECT_NEAR(bound_of(found, "LB4 source set"), 2.0, 2e-6);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB7 domain links and ports"), 2.0);
  EXPECT_NEAR(found.seconds - found.fill_seconds, 2.0, 0.02);
  EXPECT_LE(found.fill_seconds, 2 * 0.0164);  // two more windows of 16 KiB
}

TEST(DegenerateMachineTest, SourcesOnOnePortTakeItsTime) {
  const Machine machine = hand_machine({{0, 0}, {0, 0}, {1, 0}, {2, 0}});
  ASSERT_EQ(machine.ports.size(), 3U);
  const Result<Plan> plan = plan_tp({1000, 1000}, 1, 2, 1, 2, options_for(machine));  // half of 2 MB to each
  ASSERT_TRUE(plan.ok());
  const Estimate found = *estimate(*plan);
  EXPECT_EQ(load(*plan, ResourceKind::kNicOut, 0), 2 * kMega);
  EXPECT_DOUBLE_EQ(found.bound.seconds, 2.0);
  EXPECT_EQ(found.bound.name, "LB3 domain egress");
  EXPECT_THAT(found.bound.resource, ::testing::HasSubstr("n0"));
  EXPECT_DOUBLE_EQ(found.seconds, 2.0);
}

TEST(DegenerateMachineTest, ARankWithoutPortGetsItsBytesFromItsNeighbour) {
  const Machine machine = hand_machine({{0, 0}, {1, 0}, {1, -1}});
  const Plan plan = replicate(machine, {0}, {2});
  ASSERT_FALSE(plan.routes.empty());
  for (const Route& route : plan.routes) {
    ASSERT_EQ(route.num_hops, 2);
    const HopIterator hops = plan.begin_hops(route);
    EXPECT_EQ(hops[0].dst, 1);
    EXPECT_TRUE(hops[0].to_staging);
    EXPECT_EQ(hops[1].src, 1);
    EXPECT_EQ(hops[1].dst, 2);
    EXPECT_FALSE(hops[1].to_staging);
  }
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB1 gpu ingress"), 2.0 / 8);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB2 domain ingress"), 2.0);
  EXPECT_DOUBLE_EQ(found.seconds - found.fill_seconds, 2.0);
  EXPECT_NEAR(found.fill_seconds, 16384.0 / (8 * kMega), 1e-6);  // the last window's way over the links
}

TEST(DegenerateMachineTest, IsolatedRailsAreEnteredByTheRankOnTheRail) {
  Machine machine = hand_machine({{0, 0}, {1, 0}, {1, 1}, {2, 1}});
  machine.rail_isolated = true;
  const Plan plan = replicate(machine, {0}, {2});
  EXPECT_EQ(load(plan, ResourceKind::kNicIn, at(machine.gpus, 1).port), 2 * kMega);
  EXPECT_EQ(load(plan, ResourceKind::kNicIn, at(machine.gpus, 2).port), 0);
  EXPECT_EQ(load(plan, ResourceKind::kLinkOut, 1), 2 * kMega);
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB2 domain ingress"), 1.0);  // over both ports
  // Rail 0 joins n0 and n1; on rail 1 n2 has a port, although it has none of the bytes.
  EXPECT_DOUBLE_EQ(bound_of(found, "LB6 rail"), 1.0);
  EXPECT_DOUBLE_EQ(found.seconds - found.fill_seconds, 2.0);
  const Result<std::string> text = details_json(plan, *simulate_plan(plan, 4), -1);
  ASSERT_TRUE(text.ok());
  const auto hops = nlohmann::json::parse(*text)["bundle"]["routes"][0]["hops"];
  ASSERT_EQ(hops.size(), 2U);
  EXPECT_EQ(hops[0]["dst"], 1);
  EXPECT_EQ(hops[0]["to_staging"], true);
  EXPECT_EQ(hops[0]["network"], true);
  EXPECT_EQ(hops[1]["dst"], 2);
  EXPECT_EQ(hops[1]["to_staging"], false);
  EXPECT_EQ(hops[1]["network"], false);
}

TEST(DegenerateMachineTest, ADomainOfSlowLinksIsEnteredAsOftenAsThatIsQuicker) {
  // Four ranks of a node want all of 8 MB, each with a port of 2 MB/s; from four holders of as fast ports.
  const auto check = [](std::int64_t link, double seconds, double network_bytes) {
    std::vector<HandRank> ranks;
    for (std::int32_t i = 0; i < 8; ++i) ranks.push_back({i / 4, i % 4, 2 * kMega, link});
    const Plan plan = replicate(hand_machine(ranks), {0, 1, 2, 3}, {4, 5, 6, 7}, 8 * kMega);
    EXPECT_NEAR(static_cast<double>(network_load(plan)), network_bytes, 0.02 * network_bytes);
    const Estimate found = *estimate(plan);
    EXPECT_LE(found.bound.seconds, found.seconds);
    EXPECT_NEAR(found.seconds - found.fill_seconds, seconds, 0.02 * seconds);
  };
  check(kMega / 2, 8 / 2.5, 4 * 8e6 * 2 / 2.5);  // port and link of each rank carry what they can
  check(16 * kMega, 1.0, 8e6);                   // once, over all ports
}

TEST(DegenerateMachineTest, RailsHaveAnyNumber) {
  // 64 rails apart is another rail, and number 4000 is one like others.
  for (const std::int32_t far : {1, 63, 64, 65, 4000}) {
    Machine machine = hand_machine({{0, 0}, {0, 1}, {1, far + 1}, {1, 1}});
    machine.rail_isolated = true;
    const Plan plan = replicate(machine, {0, 1}, {2, 3});
    EXPECT_EQ(load(plan, ResourceKind::kNicIn, at(machine.gpus, 3).port), 2 * kMega) << far;
    EXPECT_EQ(load(plan, ResourceKind::kNicIn, at(machine.gpus, 2).port), 0) << far;
  }
}

TEST(DegenerateMachineTest, ManyThousandLoneRanksHandBytesOnInShallowTrees) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::int32_t kDomains = 6'000;  // all of them take half a minute
#else
  constexpr std::int32_t kDomains = 33'000;
#endif
  std::vector<HandRank> ranks;
  std::vector<std::int32_t> destinations;
  for (std::int32_t rank = 0; rank < kDomains; ++rank) ranks.push_back({rank});
  for (std::int32_t rank = 1; rank < kDomains; ++rank) destinations.push_back(rank);
  const Plan plan = replicate(hand_machine(ranks), {0}, destinations, 1000);
  std::int32_t depth = 0;
  for (const Hop& hop : plan.hops) depth = std::max(depth, hop.step);
  EXPECT_GE(depth, 4);  // a star would take as long as there are ranks
  EXPECT_LE(depth, 256);
  const Estimate found = *estimate(plan);
  // Of a few trees: so many ranks use up what solving may cost.
  EXPECT_LE(found.seconds - found.fill_seconds, 1.3 * found.bound.seconds);
}

TEST(DegenerateMachineTest, ManyRanksOfOnePortSendAMessageEach) {
  std::vector<HandRank> ranks(65, HandRank{0});
  ranks.push_back({1});
  EXPECT_EQ(replicate(hand_machine(ranks), {0}, {65}).most_in_flight, 1);
  EXPECT_EQ(replicate(hand_machine({{0}, {0}, {1}}), {0}, {2}).most_in_flight, 32);
}

TEST(DegenerateMachineTest, RailsThatNobodyElseHasDoNotCount) {
  Machine machine = hand_machine({{0, 0}, {1, 0}, {1, 1}});
  machine.rail_isolated = true;
  const Plan plan = replicate(machine, {0}, {2});
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB2 domain ingress"), 1.0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB6 rail"), 2.0);
  EXPECT_DOUBLE_EQ(found.bound.seconds, 2.0);
}

TEST(DegenerateMachineTest, BytesChangeRailsOverTheLinksOfTheRanksOnThem) {
  const auto bound = [](const std::vector<std::int64_t>& links, const std::vector<std::int32_t>& from) {
    Machine machine = hand_machine({{0, 0, 9 * kMega, links[0]},
                                    {0, 1, 9 * kMega, links[1]},
                                    {1, 0, 9 * kMega, links[2]},
                                    {1, 1, 9 * kMega, links[3]},
                                    {2, 0, 9 * kMega, kMega}});  // no neighbour: its link counts for nothing
    machine.rail_isolated = true;
    return bound_of(*estimate(replicate(machine, from, {3})), "LB12 changes of rail");
  };
  EXPECT_DOUBLE_EQ(bound({2 * kMega, 8 * kMega, 3 * kMega, 8 * kMega}, {0}), 2.0 / 5);  // out of rail 0
  EXPECT_DOUBLE_EQ(bound({8 * kMega, 2 * kMega, 8 * kMega, 3 * kMega}, {0}), 2.0 / 5);  // into rail 1
  EXPECT_DOUBLE_EQ(bound({2 * kMega, 8 * kMega, kUnlimited, 8 * kMega}, {0}), 2.0 / 16);
  EXPECT_DOUBLE_EQ(bound({2 * kMega, 8 * kMega, 3 * kMega, 8 * kMega}, {0, 1}), 0);  // who holds it is on the rail
}

TEST(DegenerateMachineTest, APortOfHalfTheSpeedGetsHalfTheBytes) {
  for (const std::int32_t node : {0, 1}) {  // both replicas of the source on one node, or on two
    Machine machine = hand_machine({{0, 0}, {node, 1}, {node + 1, 0, 8 * kMega}});
    machine.ports[PortId(1)].out.efficiency_permille = machine.ports[PortId(1)].in.efficiency_permille = 500;
    const Plan plan = replicate(machine, {0, 1}, {2}, 3 * kMega);
    EXPECT_NEAR(static_cast<double>(load(plan, ResourceKind::kNicOut, 0)), 2e6, 0.05 * 2e6);
    EXPECT_NEAR(static_cast<double>(load(plan, ResourceKind::kNicOut, 1)), 1e6, 0.05 * 1e6);
    const Estimate found = *estimate(plan);
    EXPECT_NEAR(bound_of(found, "LB4 source set"), 2.0, 0.01);
    EXPECT_LE(found.seconds, 1.05 * 2.0);
  }
  // And into a node.
  Machine machine = hand_machine({{0, 0, 8 * kMega}, {1, 0}, {1, 1}});
  machine.ports[PortId(2)].in.efficiency_permille = 500;
  const Plan plan = replicate(machine, {0}, {1, 2}, 3 * kMega);
  EXPECT_NEAR(static_cast<double>(load(plan, ResourceKind::kNicIn, 1)), 2e6, 0.05 * 2e6);
  EXPECT_NEAR(static_cast<double>(load(plan, ResourceKind::kNicIn, 2)), 1e6, 0.05 * 1e6);
  EXPECT_DOUBLE_EQ(bound_of(*estimate(plan), "LB2 domain ingress"), 2.0);
}

TEST(DegenerateMachineTest, ANodeWithoutOneOfTwoRailsIsEnteredByTheOther) {
  // n0 has everything on both rails; n1 has both rails, n2 only rail 0.
  Machine machine = hand_machine({{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, -1}});
  machine.rail_isolated = true;
  const Plan plan = replicate(machine, {0, 1}, {2, 3, 4, 5});
  const std::int32_t lone = at(machine.gpus, 4).port;
  EXPECT_EQ(load(plan, ResourceKind::kNicIn, lone), 2 * kMega);
  EXPECT_EQ(network_load(plan), 4 * kMega);
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB2 domain ingress"), 2.0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB3 domain egress"), 1.0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB6 rail"), 2.0);
  EXPECT_LE(found.seconds - found.fill_seconds, 1.1 * 2.0);
}

TEST(DegenerateMachineTest, TheLeastLatencyIsOfAnyTwoPorts) {
  Machine machine = hand_machine({{0}, {1}});
  machine.ports[PortId(0)].out.latency_ns = machine.ports[PortId(1)].in.latency_ns = 1000;
  machine.ports[PortId(0)].in.latency_ns = machine.ports[PortId(1)].out.latency_ns = 500'000'000;
  const Plan plan = replicate(machine, {0}, {1}, 1000);
  const Result<Estimate> found = estimate(plan);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_DOUBLE_EQ(bound_of(*found, "LB10 latency"), 2e-6);
  machine.ports[PortId(0)].out.latency_ns = 0;
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1}, 1000)), "LB10 latency"), 1e-6);
}

/// Two nodes in blocks of their own: n0 with one rank of a fast port, n1 with ranks on rails 0 and 1.
Machine two_blocks(std::int64_t rail_0_down, std::int64_t rail_1_down) {
  Machine machine = hand_machine({{0, 0, 16 * kMega}, {1, 0}, {1, 1}});
  machine.nodes[NodeId(1)].block = 1;
  machine.leaves.resize(1);
  for (const std::int64_t down : {rail_0_down, rail_1_down}) {
    Machine::Leaf leaf;
    leaf.block = 1;
    leaf.down.nominal_bytes_per_s = leaf.up.nominal_bytes_per_s = down;
    const LeafId id = machine.leaves.push_back(leaf);
    machine.ports[PortId(id.value())].leaf = id;  // the port of n1 on that rail
  }
  return machine;
}

TEST(DegenerateMachineTest, UplinksCountAsFarAsPortsUseThem) {
  // Into n1 half a megabyte per second through one leaf; through the other no more than its port takes, 1 MB/s.
  const Machine half_used = two_blocks(kMega / 2, 100 * kMega);
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(half_used, {0}, {1, 2}, 3 * kMega)), "LB5 leaf"), 2.0);
  // The same leaf counts for nothing when its port is no rank's.
  Machine unused = two_blocks(kMega / 2, 100 * kMega);
  unused.gpus[RankId(2)].port = PortId(1);
  unused.domains[DomainId(1)].ports = {1};
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(unused, {0}, {1, 2}, 3 * kMega)), "LB5 leaf"), 6.0);
  // Nor where rails are isolated and nobody sends on its rail.
  Machine apart = two_blocks(kMega / 2, 100 * kMega);
  apart.rail_isolated = true;
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(apart, {0}, {1, 2}, 3 * kMega)), "LB5 leaf"), 6.0);
}

TEST(DegenerateMachineTest, APodTakesInWhatItsPortsDo) {
  Machine machine = two_blocks(100 * kMega, 100 * kMega);
  machine.pods.resize(2);
  for (Machine::Pod& pod : machine.pods) pod.up.nominal_bytes_per_s = pod.down.nominal_bytes_per_s = 100 * kMega;
  for (const LeafId leaf : {LeafId(1), LeafId(2)}) machine.leaves[leaf].pod = PodId(1);
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1, 2}, 3 * kMega)), "LB5 pod"), 1.5);
  machine.pods[PodId(1)].down.nominal_bytes_per_s = kMega;
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1, 2}, 3 * kMega)), "LB5 pod"), 3.0);
}

TEST(DegenerateMachineTest, APortThatTwoDomainsShareReachesItself) {
  Machine machine = hand_machine(std::vector<HandRank>(4, HandRank{0, 0, kMega, kMega / 4}));
  machine.domains.push_back({{2, 3}, {0}});
  machine.domains[DomainId(0)].ranks = {0, 1};
  for (const RankId rank : {RankId(2), RankId(3)}) machine.gpus[rank].domain = DomainId(1);
  const Result<Estimate> found = estimate(replicate(machine, {0}, {2}));
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_DOUBLE_EQ(bound_of(*found, "LB1 gpu ingress"), 2 / 1.25);  // its link and the port
}

TEST(DegenerateMachineTest, NoMoreComesByAPortThanOthersSendAndPcieTakes) {
  Machine machine = hand_machine({{0, 0, kMega}, {1, 0, 16 * kMega, kMega}, {1, 1, 16 * kMega, kMega}});
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1})), "LB1 gpu ingress"), 2.0 / (1 + 1));
  machine.gpus[RankId(1)].pcie.nominal_bytes_per_s = kMega / 4;
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1})), "LB1 gpu ingress"), 2.0 / 1.25);
}

TEST(DegenerateMachineTest, RanksThatShareAPortCountItOnce) {
  // Two of three ranks of n1 want 2 MB each, behind one port, over links of half its speed; the third wants nothing.
  const HandRank sharer{1, 0, 2 * kMega, kMega};
  const Machine machine = hand_machine({{0, 0, 16 * kMega}, sharer, sharer, sharer});
  const Estimate found = *estimate(replicate(machine, {0}, {1, 2}));
  EXPECT_DOUBLE_EQ(bound_of(found, "LB7 domain links and ports"), 4.0 / (2 * 1 + 2));
}

/// Of bytes that rank 0 holds and wants.
Plan copy_within(Machine machine, std::int64_t memory_bytes_per_s, std::int64_t bytes) {
  machine.gpus[RankId(0)].memory.nominal_bytes_per_s = memory_bytes_per_s;
  return replicate(machine, {0}, {0}, bytes);
}

TEST(DegenerateMachineTest, WhatARankTakesFromItselfTakesTheTimeOfItsMemory) {
  const Plan plan = copy_within(hand_machine({{0}}), 4 * kMega, 6 * kMega);
  EXPECT_TRUE(plan.routes.empty());
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(found.seconds, 3.0);  // read and written
  EXPECT_EQ(found.resource, "memory of rank 0 on n0");
  EXPECT_DOUBLE_EQ(bound_of(found, "LB8 memory"), 3.0);
  EXPECT_EQ(load(plan, ResourceKind::kMemory, 0), 12 * kMega);
  const Simulation simulation = *simulate_plan(plan, 4);
  EXPECT_DOUBLE_EQ(simulation.seconds, 3.0);
  EXPECT_TRUE(simulation.flows.empty());  // those tell of routes
  EXPECT_DOUBLE_EQ(at(simulation.utilisation, static_cast<int>(ResourceKind::kMemory)).back(), 1.0);
  EXPECT_EQ(estimate(copy_within(hand_machine({{0}}), kUnlimited, 6 * kMega))->seconds, 0);
}

TEST(DegenerateMachineTest, AMemoryIsReadWrittenAndCopiedWithinAtOneRate) {
  // Rank 0 keeps 2 MB and sends them to rank 1: 4 MB for the copy, 2 MB read for what is sent.
  Machine machine = hand_machine({{0}, {1}});
  machine.gpus[RankId(0)].memory.nominal_bytes_per_s = kMega;
  const Plan plan = replicate(machine, {0}, {0, 1});
  const Estimate found = *estimate(plan);
  EXPECT_DOUBLE_EQ(found.seconds, 6.0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB8 memory"), 6.0);
  EXPECT_NEAR(simulate_plan(plan, 0)->seconds, 6.0, 0.1);
}

TEST(DegenerateMachineTest, WhatComesOverLinksIsReadInTheDomainToo) {
  // Three ranks take 2 MB each from a fourth over fast links: 6 MB written and 6 MB read in four memories of 1 MB/s.
  Machine machine = hand_machine(std::vector<HandRank>(4, HandRank{0, 0, kMega, 64 * kMega}));
  for (Machine::Gpu& gpu : machine.gpus) gpu.memory.nominal_bytes_per_s = kMega;
  EXPECT_DOUBLE_EQ(bound_of(*estimate(replicate(machine, {0}, {1, 2, 3})), "LB8 memory"), 12.0 / 4);
}

TEST(DegenerateMachineTest, MulticastOfTheSwitchSendsOnceWhatGoesToSeveral) {
  const HandRank rank{0, 0, kMega, 4 * kMega};
  Machine machine = hand_machine({rank, rank, rank});
  machine.gpus[RankId(0)].memory.nominal_bytes_per_s = 16 * kMega;
  const auto with_multicast = [&](std::int32_t of_sender, std::int32_t of_receivers) {
    machine.gpus[RankId(0)].multicast_permille = of_sender;
    for (const RankId to : {RankId(1), RankId(2)}) machine.gpus[to].multicast_permille = of_receivers;
    Plan plan = replicate(machine, {0}, {1, 2});
    Route star = *plan.routes.begin();  // straight from rank 0 to both, whatever routing chose
    star.size_bytes = 2 * kMega;
    star.first_hop = 0;
    star.num_hops = 2;
    plan.hops = {{0, 1}, {0, 2}};
    plan.routes.clear();
    plan.routes.push_back(star);
    const Estimate found = *estimate(plan);
    EXPECT_DOUBLE_EQ(found.seconds, 1.0);  // 4 MB out of rank 0 at 4 MB/s
    return found.multicast_seconds;
  };
  EXPECT_FALSE(with_multicast(0, 800).has_value());
  EXPECT_FALSE(with_multicast(800, 0).has_value());
  EXPECT_NEAR(with_multicast(800, 740).value(), 2.0 / (0.8 * 4), 1e-9);
  EXPECT_NEAR(with_multicast(1000, 1000).value(), 0.5, 1e-9);
}

TEST(DegenerateMachineTest, AMemorySlowerThanLinksIsWhatItTakes) {
  Machine machine = hand_machine({{0}, {1}});
  machine.gpus[RankId(1)].memory.nominal_bytes_per_s = kMega / 2;
  const Result<Estimate> found = estimate(replicate(machine, {0}, {1}));
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->bound.name, "LB8 memory");
  EXPECT_DOUBLE_EQ(found->bound.seconds, 4.0);
  EXPECT_DOUBLE_EQ(found->seconds, 4.0);
  EXPECT_EQ(found->resource, "memory of rank 1 on n1");
}

}  // namespace
}  // namespace reshard
