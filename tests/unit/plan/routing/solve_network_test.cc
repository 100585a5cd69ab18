// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which ports and uplinks carry what, where there is one best answer.
#include <gtest/gtest.h>

#include "tests/unit/plan/routing/solved.h"

namespace reshard::routing {
namespace {

using testing::Asked;
using testing::HandRank;
using testing::kMega;
using testing::ranks_from;
using testing::Solved;

/// A domain with four ports, one of them a quarter as fast; rank 4 receives as fast as all of them together.
Machine one_slow_port() {
  return testing::hand_machine(
      {{0, 0, 4 * kMega, 0}, {0, 1, 4 * kMega, 0}, {0, 2, kMega, 0}, {0, 3, 4 * kMega, 0}, {1, 0, 100 * kMega, 0}});
}

TEST(SolveTest, PortsSendAsMuchAsTheyAreFast) {
  const Solved solved(one_slow_port(), {{ranks_from(0, 4), {4}, 130 * kMega}});
  solved.expect_seconds(10);
  for (int port = 0; port < 4; ++port) {
    EXPECT_NEAR(double(solved.load(ResourceKind::kNicOut, port)), port == 2 ? 10e6 : 40e6, 0.8e6);
  }
  EXPECT_EQ(solved.num_staged(), 0);
}

TEST(SolveTest, OthersOfTheDomainSendForAHolderWithASlowPort) {
  const Solved solved(one_slow_port(), {{{2}, {4}, 130 * kMega}});
  solved.expect_seconds(10);
  EXPECT_NEAR(double(solved.num_staged()), 120e6, 1.2e6);
}

/// Rank 0 sends fast, but the leaf of rank 2 lets little in; rank 1, which has a neighbour in rank 0, is behind it.
TEST(SolveTest, AnIdleRankBehindASlowDownlinkSendsForAFastHolderBeforeIt) {
  Machine machine =
      testing::hand_machine({{0, 0, 100 * kMega, 100 * kMega}, {0, 1, 100 * kMega, 100 * kMega}, {1, 1, 3 * kMega}});
  machine.leaves[LeafId(1)].down.nominal_bytes_per_s = kMega;
  const Solved solved(machine, {{{0}, {2}, 30 * kMega}});
  solved.expect_seconds(10);
  EXPECT_GE(solved.num_staged(), 19 * kMega);
}

TEST(SolveTest, WhatIsBusyWithOtherThingsSendsLess) {
  const Machine machine = testing::hand_machine({{0, 0, kMega}, {1, 0, kMega}, {2, 0, 100 * kMega}});
  const Solved solved(machine, {{{0, 1}, {2}, 100 * kMega}},
                      {{machine.resource(ResourceKind::kNicOut, 0), 50 * kMega}});
  solved.expect_seconds(75);
  EXPECT_NEAR(double(solved.load(ResourceKind::kNicOut, 1)), 75e6, 0.8e6);
}

/// Rank i of one domain holds part i of a matrix cut by rows, rank j of the other wants part j of it cut by columns.
TEST(SolveTest, FromOneCutToAnotherEveryPieceGoesDirectly) {
  for (const int k : {1, 2, 4, 8}) {
    SCOPED_TRACE(k);
    std::vector<HandRank> ranks;
    for (int rank = 0; rank < 2 * k; ++rank) ranks.push_back({rank / k, 0, kMega, 100 * kMega});
    Machine machine = testing::hand_machine(ranks);
    machine.ports.clear();  // each rank has one of its own
    for (const DomainId domain : machine.domains.ids()) {
      machine.domains[domain].ports.clear();
      for (const std::int32_t rank : machine.domains[domain].ranks) {
        machine.gpus[RankId(rank)].port = PortId(rank);
        machine.domains[domain].ports.push_back(rank);
        Machine::Port& port = machine.ports.emplace_back();
        port.out.nominal_bytes_per_s = port.in.nominal_bytes_per_s = kMega;
      }
    }
    std::vector<Asked> all;
    for (int row = 0; row < k; ++row) {
      for (int column = 0; column < k; ++column) all.push_back({{row}, {k + column}, 64 * kMega / k / k});
    }
    const Solved solved(machine, all);
    solved.expect_seconds(64.0 / k);
    for (const Demand& demand : solved.demands) {
      ASSERT_EQ(demand.shares.size(), 1U);
      EXPECT_EQ(demand.shares.front().tree->arcs.size(), 1U);
    }
  }
}

/// Of two ranks of a domain one lacks twice as much as the other, and larger pieces that both lack may come in by
/// either's port. Who gives these their ports first cannot know that, and has to divide one of them in the end.
TEST(SolveTest, OfManyPiecesThoseThatAllLackFillTheGapsBetweenPorts) {
  const Machine machine = testing::hand_machine({{0, 0, 1000 * kMega}, {1, 0, kMega, 0}, {1, 1, kMega, 0}});
  std::vector<Asked> all;
  for (int i = 0; i < 30; ++i) all.push_back({{0}, {1, 2}, kMega / 5});
  for (int i = 0; i < 415; ++i) all.push_back({{0}, {1}, kMega / 100});
  for (int i = 0; i < 210; ++i) all.push_back({{0}, {2}, kMega / 100});
  const Solved solved(machine, all);
  solved.expect_seconds(6.125);
  EXPECT_EQ(solved.num_staged(), 0);
  for (const Demand& demand : solved.demands) EXPECT_EQ(demand.shares.size(), 1U) << demand.range.bundle;
}

/// Two leaves of six hosts whose uplinks carry half of what one port does. The first host holds, all others want.
Machine two_leaves() {
  std::vector<HandRank> ranks;
  for (int rank = 0; rank < 12; ++rank) ranks.push_back({rank, 0, 8 * kMega, 0});
  Machine machine = testing::hand_machine(ranks);
  machine.leaves.push_back(machine.leaves[LeafId(0)]);
  for (Machine::Leaf& leaf : machine.leaves) leaf.up.nominal_bytes_per_s = leaf.down.nominal_bytes_per_s = 4 * kMega;
  for (int port = 6; port < 12; ++port) machine.ports[PortId(port)].leaf = LeafId(1);
  return machine;
}

TEST(SolveTest, EachByteCrossesAScarceUplinkOnce) {
  const Solved solved(two_leaves(), {{{0}, ranks_from(1, 11), 100 * kMega}});
  solved.expect_seconds(25);
  for (const ResourceKind kind : {ResourceKind::kLeafUp, ResourceKind::kLeafDown}) {
    const std::int32_t leaf = kind == ResourceKind::kLeafUp ? 0 : 1;
    EXPECT_GE(solved.load(kind, leaf), 100 * kMega);
    EXPECT_LE(solved.load(kind, leaf), 101 * kMega);
  }
}

TEST(SolveTest, EachByteCrossesBetweenPodsOnce) {
  Machine machine = two_leaves();
  machine.pods.push_back(machine.pods[PodId(0)]);
  machine.leaves[LeafId(1)].pod = PodId(1);
  for (Machine::Leaf& leaf : machine.leaves) leaf.up.nominal_bytes_per_s = leaf.down.nominal_bytes_per_s = kUnlimited;
  for (Machine::Pod& pod : machine.pods) pod.up.nominal_bytes_per_s = pod.down.nominal_bytes_per_s = 2 * kMega;
  const Solved solved(machine, {{{0}, ranks_from(1, 11), 100 * kMega}});
  solved.expect_seconds(50);
  EXPECT_LE(solved.load(ResourceKind::kPodDown, 1), 101 * kMega);
}

/// Memory is read to send and written to receive: two copies to others are read twice.
TEST(SolveTest, MemoryThatSendsSlowlyIsReadOnce) {
  Machine machine = testing::hand_machine(std::vector<HandRank>(5, {0, -1, 0, 0}));
  for (Machine::Gpu& gpu : machine.gpus) gpu.memory.nominal_bytes_per_s = 100 * kMega;
  machine.gpus[RankId(0)].memory.nominal_bytes_per_s = 40 * kMega;
  const Solved solved(machine, {{{0}, ranks_from(1, 4), 400 * kMega}});
  solved.expect_seconds(10);
}

TEST(SolveTest, NamesWhoIsNotReached) {
  Machine machine = testing::hand_machine({{0, 0}, {1, 1}});
  machine.rail_isolated = true;
  const Solved solved(machine, {{{0}, {1}, 1000}});
  EXPECT_EQ(solved.status.code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_NE(solved.status.message().find("no port of node \"n1\" (rank 1) is reached from node \"n0\" (rank 0)"),
            std::string::npos)
      << solved.status.message();
}

}  // namespace
}  // namespace reshard::routing
