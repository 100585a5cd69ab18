// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/sections.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/plan/loads.h"
#include "src/plan/routing/route_on_machine.h"
#include "tests/optimum/random.h"
#include "tests/unit/plan/routing/prepared.h"

namespace reshard::routing {
namespace {

using testing::HandRank;
using testing::kMega;
using testing::Placed;
using testing::prepared;

using RanksOfSections = std::vector<std::vector<std::int32_t>>;

/// Each node hangs on the leaf given for it, of uplinks of so many bytes per second; each leaf is in the pod given.
void hang(const std::vector<std::int32_t>& leaf_of_node, const std::vector<std::int32_t>& pod_of_leaf,
          std::int64_t rate, Machine* machine) {
  machine->leaves.clear();
  machine->pods.clear();
  for (const std::int32_t pod : pod_of_leaf) {
    Machine::Leaf& leaf = machine->leaves.emplace_back();
    leaf.pod = PodId(pod);
    leaf.up.nominal_bytes_per_s = leaf.down.nominal_bytes_per_s = rate;
    if (machine->pods.end_id() > pod) continue;
    Machine::Pod& its_pod = machine->pods.emplace_back();
    its_pod.up.nominal_bytes_per_s = its_pod.down.nominal_bytes_per_s = rate / 2;
  }
  for (Machine::Port& port : machine->ports) port.leaf = LeafId(at(leaf_of_node, port.node));
}

/// Four nodes of two ranks: 0 and 1 hold what 2 and 3 want, each rank's twin on the other node the same.
Machine four_nodes(std::vector<HandRank> ranks = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 0}, {3, 1}}) {
  return testing::hand_machine(ranks);
}
const std::vector<Placed> kTwoReplicas = {{1000, 0, {0, 2}, {4, 6}}, {2000, 0, {1, 3}, {5, 7}}};

TEST(SectionsTest, AreWhatHoldsAndWantsTheSameInTheSamePlaces) {
  Machine machine = four_nodes();
  hang({0, 1, 0, 1}, {0, 0}, 4 * kMega, &machine);
  const Sections found = find_sections(prepared(machine, kTwoReplicas));
  EXPECT_EQ(found.ranks, (RanksOfSections{{0, 1, 4, 5}, {2, 3, 6, 7}}));
  EXPECT_EQ(found.shared, Shared::kNothing);
}

TEST(SectionsTest, MayShareALeafOrAPodEqually) {
  Machine machine = four_nodes();
  hang({0, 0, 1, 1}, {0, 0}, 4 * kMega, &machine);
  Sections found = find_sections(prepared(machine, kTwoReplicas));
  EXPECT_EQ(found.ranks, (RanksOfSections{{0, 1, 4, 5}, {2, 3, 6, 7}}));
  EXPECT_EQ(found.shared, Shared::kLeaves);
  Plan job = job_of_section(prepared(machine, kTwoReplicas), found);
  ASSERT_EQ(job.options.machine->leaves.size(), 2U);
  EXPECT_EQ(job.options.machine->leaves[LeafId(1)].down.bytes_per_s(), 2 * kMega);

  hang({0, 1, 2, 3}, {0, 0, 1, 1}, 4 * kMega, &machine);
  found = find_sections(prepared(machine, kTwoReplicas));
  EXPECT_EQ(found.ranks, (RanksOfSections{{0, 1, 4, 5}, {2, 3, 6, 7}}));
  EXPECT_EQ(found.shared, Shared::kPods);
  job = job_of_section(prepared(machine, kTwoReplicas), found);
  EXPECT_EQ(job.options.machine->leaves[LeafId(0)].up.bytes_per_s(), 4 * kMega);
  EXPECT_EQ(job.options.machine->pods[PodId(1)].down.bytes_per_s(), kMega);
}

TEST(SectionsTest, AreNoneWhereAnyRankDiffers) {
  EXPECT_EQ(find_sections(prepared(four_nodes(), kTwoReplicas)).count(), 2U);
  std::vector<Placed> more = kTwoReplicas;
  more.push_back({1, 0, {0}, {4}});
  EXPECT_LT(find_sections(prepared(four_nodes(), more)).count(), 2U);
  const std::vector<HandRank> slower_port = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 0}, {3, 1, kMega / 2}};
  EXPECT_LT(find_sections(prepared(four_nodes(slower_port), kTwoReplicas)).count(), 2U);
  const std::vector<HandRank> one_port = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 0}, {3, 0}};
  EXPECT_LT(find_sections(prepared(four_nodes(one_port), kTwoReplicas)).count(), 2U);
  Machine machine = four_nodes();
  hang({0, 1, 0, 0}, {0, 0}, 4 * kMega, &machine);
  EXPECT_LT(find_sections(prepared(machine, kTwoReplicas)).count(), 2U);
}

TEST(SectionsTest, LeaveOutWhoHoldsAndWantsNothing) {
  const Machine machine = testing::hand_machine({{0}, {1}, {2}, {3}, {4}});
  const Plan plan = prepared(machine, {{1000, 0, {0, 1}, {3, 4}}});
  const Sections found = find_sections(plan);
  EXPECT_EQ(found.ranks, (RanksOfSections{{0, 3}, {1, 4}}));
  const Plan job = job_of_section(plan, found);
  EXPECT_EQ(job.num_ranks, 2);
  EXPECT_EQ(job.sets.ranks(job.bundles.front().sources), std::vector<std::int32_t>{0});
  EXPECT_EQ(job.sets.ranks(job.bundles.front().destinations), std::vector<std::int32_t>{1});
}

/// Something of any shape, several times over.
struct Repeated {
  explicit Repeated(optimum::Random* random) {
    const int num_sections = random->between(2, 4);
    const int num_nodes = random->between(2, 4);
    std::vector<HandRank> section;
    std::vector<std::int32_t> leaves;
    for (int node = 0; node < num_nodes; ++node) {
      leaves.push_back(random->between(0, 1));
      for (int i = random->between(1, 3); i > 0; --i) {
        section.push_back({node, random->between(0, 1), kMega * random->between(1, 4), kMega * random->between(1, 9)});
      }
    }
    const bool has_own_leaves = random->one_in(2);
    std::vector<HandRank> ranks;
    std::vector<std::int32_t> leaf_of_node;
    for (int s = 0; s < num_sections; ++s) {
      for (HandRank rank : section) {
        rank.node += s * num_nodes;
        ranks.push_back(rank);
      }
      for (const std::int32_t leaf : leaves) leaf_of_node.push_back(leaf + (has_own_leaves ? 2 * s : 0));
    }
    machine = testing::hand_machine(ranks);
    const auto num_leaves = static_cast<std::size_t>(has_own_leaves ? 2 * num_sections : 2);
    hang(leaf_of_node, std::vector<std::int32_t>(num_leaves), kMega * random->between(1, 8), &machine);
    const auto num_ranks = static_cast<int>(section.size());
    for (int t = random->between(1, 4); t > 0; --t) {
      Placed placed{random->between(500, 3000), 0, {}, {}};
      std::vector<bool> holds(section.size());
      std::vector<bool> wants(section.size());
      holds[static_cast<std::size_t>(random->between(0, num_ranks - 1))] = true;
      wants[static_cast<std::size_t>(random->between(0, num_ranks - 1))] = true;
      for (int r = 0; r < num_ranks; ++r) {
        if (random->one_in(4)) holds[static_cast<std::size_t>(r)] = true;
        if (random->one_in(2)) wants[static_cast<std::size_t>(r)] = true;
      }
      for (int s = 0; s < num_sections; ++s) {
        for (int r = 0; r < num_ranks; ++r) {
          if (holds[static_cast<std::size_t>(r)]) placed.from.push_back(s * num_ranks + r);
          if (wants[static_cast<std::size_t>(r)]) placed.to.push_back(s * num_ranks + r);
        }
      }
      tensors.push_back(placed);
    }
    least_count = static_cast<std::size_t>(num_sections);
  }
  Machine machine;
  std::vector<Placed> tensors;
  std::size_t least_count = 0;
};

/// Whatever is repeated is found, and no two twins differ in how fast anything is between them and others.
TEST(SectionsTest, HaveTheSameWaysBetweenTwins) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    optimum::Random random(seed);
    const Repeated given(&random);
    const Plan plan = prepared(given.machine, given.tensors);
    const Sections found = find_sections(plan);
    ASSERT_GE(found.count(), given.least_count);
    const auto rates = [&](std::int32_t src, std::int32_t dst) {
      std::vector<std::int32_t> uses;
      given.machine.append_uses(RankId(src), RankId(dst), &uses);
      std::vector<std::int64_t> out;
      for (const std::int32_t resource : uses) out.push_back(given.machine.link_of(resource).bytes_per_s());
      return out;
    };
    for (const std::vector<std::int32_t>& section : found.ranks) {
      ASSERT_EQ(section.size(), found.ranks.front().size());
      for (std::size_t i = 0; i < section.size(); ++i) {
        for (std::size_t j = 0; j < section.size(); ++j) {
          EXPECT_EQ(rates(section[i], section[j]), rates(found.ranks.front()[i], found.ranks.front()[j]));
        }
        for (std::int32_t set = 0; set < plan.sets.size(); ++set) {
          EXPECT_EQ(plan.sets.contains(set, section[i]), plan.sets.contains(set, found.ranks.front()[i]));
        }
      }
    }
  }
}

/// Of the busiest resource.
double seconds_of(const Plan& plan) {
  return busiest(*plan.options.machine, loads_of(plan)).seconds;
}

TEST(SectionsTest, AreRoutedAsWellAsTheWhole) {
  int num_repeated = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    optimum::Random random(seed);
    const Repeated given(&random);
    Plan whole = prepared(given.machine, given.tensors);
    ASSERT_TRUE(route_on_machine(&whole).ok());
    Plan by_sections = prepared(given.machine, given.tensors);
    ASSERT_TRUE(route_on_machine(&by_sections, 0).ok());
    const Status checked = check_routes(by_sections);
    ASSERT_TRUE(checked.ok()) << checked.message();
    EXPECT_LE(seconds_of(by_sections), seconds_of(whole) * 1.0051);
    if (by_sections.hops.size() != whole.hops.size()) ++num_repeated;
  }
  EXPECT_GT(num_repeated, 20);
}

}  // namespace
}  // namespace reshard::routing
