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

/// One tensor of `bytes` bytes on `sources`, each all of it, wanted whole by each of `destinations`.
Plan replicate(const Machine& machine, const std::vector<std::int32_t>& sources,
               const std::vector<std::int32_t>& destinations, std::int64_t bytes = 2 * kMega) {
  std::shared_ptr<ModelLayout> sides[2];
  for (const bool is_dst : {false, true}) {
    const std::vector<std::int32_t>& ranks = is_dst ? destinations : sources;
    auto& side = sides[is_dst ? 1 : 0];
    side = std::make_shared<ModelLayout>(machine.num_ranks());
    const std::int64_t id = *side->add_tensor({"w", DType::kU8, {bytes / 1000, 1000}, 0});
    Placement placement;
    placement.mesh = *Mesh::create({{"dp", static_cast<std::int64_t>(ranks.size())}}, ranks);
    placement.dims.resize(2);
    placement.buffer = side->add_buffer("w", DType::kU8);
    EXPECT_TRUE(side->place(id, placement).ok());
  }
  Result<Plan> plan = create_plan(sides[0], sides[1], options_for(machine));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

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
  EXPECT_EQ(bound_of(found, "LB9 prices"), 0);
  EXPECT_DOUBLE_EQ(bound_of(found, "LB1 gpu ingress"), 8.0 / 8);  // nothing reaches the port
  EXPECT_DOUBLE_EQ(bound_of(found, "LB7 domain links and ports"), 16.0 / (4 * 8));
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

TEST(DegenerateMachineTest, ADomainOfSlowLinksIsEnteredByEachRankThatWantsTheByte) {
  // Four ranks of a node want all of 8 MB, each with a port of 2 MB/s; from four holders of as fast ports.
  const auto seconds = [](std::int64_t link, bool* is_split) {
    std::vector<HandRank> ranks;
    for (std::int32_t i = 0; i < 8; ++i) ranks.push_back({i / 4, i % 4, 2 * kMega, link});
    const Plan plan = replicate(hand_machine(ranks), {0, 1, 2, 3}, {4, 5, 6, 7}, 8 * kMega);
    *is_split = plan.splits_slow_domains;
    EXPECT_EQ(network_load(plan), (*is_split ? 4 : 1) * 8 * kMega);
    const Estimate found = *estimate(plan);
    EXPECT_LE(found.bound.seconds, found.seconds);
    return found.seconds - found.fill_seconds;
  };
  bool is_split = false;
  EXPECT_NEAR(seconds(kMega / 2, &is_split), 4.0, 0.05);  // all of it by each port; once and over links it is 12 s
  EXPECT_TRUE(is_split);
  EXPECT_NEAR(seconds(16 * kMega, &is_split), 1.0, 0.05);
  EXPECT_FALSE(is_split);
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

TEST(DegenerateMachineTest, AChainMayBeAsLongAsThereAreDomains) {
  constexpr std::int32_t kDomains = 33'000;
  std::vector<HandRank> ranks;
  std::vector<std::int32_t> destinations;
  for (std::int32_t rank = 0; rank < kDomains; ++rank) ranks.push_back({rank});
  for (std::int32_t rank = 1; rank < kDomains; ++rank) destinations.push_back(rank);
  const Plan plan = replicate(hand_machine(ranks), {0}, destinations, 1000);
  ASSERT_FALSE(plan.hops.empty());
  EXPECT_EQ(plan.hops.back().step, kDomains - 2);
  EXPECT_EQ(plan.hops.back().delay, kDomains - 2);
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

TEST(DegenerateMachineTest, AMemorySlowerThanLinksIsWhatItTakes) {
  Machine machine = hand_machine({{0}, {1}});
  machine.gpus[RankId(1)].memory_bytes_per_s = kMega / 2;
  const Result<Estimate> found = estimate(replicate(machine, {0}, {1}));
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->bound.name, "LB8 memory");
  EXPECT_DOUBLE_EQ(found->bound.seconds, 4.0);
  EXPECT_DOUBLE_EQ(found->seconds, 4.0);
  EXPECT_EQ(found->resource, "memory of rank 1");
}

}  // namespace
}  // namespace reshard
