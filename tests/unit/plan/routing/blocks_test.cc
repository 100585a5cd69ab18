// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/blocks.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/optimum/random.h"
#include "tests/unit/plan/routing/prepared.h"

namespace reshard::routing {
namespace {

using testing::bundle_of;
using testing::kMega;
using testing::Placed;

using Sizes = std::vector<std::int64_t>;

TEST(BlocksTest, SizesDivideTheGroupsMostEvenly) {
  EXPECT_EQ(block_sizes(10, 4), (Sizes{4, 3, 2, 1}));  // in 3, 4, 5 and 10 blocks
  EXPECT_EQ(block_sizes(10, 3), (Sizes{3, 2, 1}));
  EXPECT_EQ(block_sizes(9, 5), (Sizes{5, 3, 2, 1}));  // blocks of 4 would be three, and so are those of 3
  EXPECT_EQ(block_sizes(7, 7), (Sizes{7, 4, 3, 2, 1}));
  EXPECT_EQ(block_sizes(7, 100), (Sizes{7, 4, 3, 2, 1}));
  EXPECT_EQ(block_sizes(1, 1), (Sizes{1}));
}

/// Two hosts, and groups 10, 20 and 30 of 2, 4 and 2 MB from one to the other; in group 25 3 MB stay.
struct ThreeGroups {
  ThreeGroups() {
    Machine machine = testing::hand_machine({{0}, {1}});
    for (Machine::Gpu& gpu : machine.gpus) gpu.memory.nominal_bytes_per_s = kMega;
    plan = testing::prepared(machine,
                             {{2000, 10, {0}, {1}}, {4000, 20, {0}, {1}}, {3000, 25, {0}, {0}}, {2000, 30, {0}, {1}}});
  }
  std::vector<Block> blocks(std::int64_t groups_per_block) const {
    return blocks_of(plan, DomainSets(*plan.options.machine, plan.sets), groups_per_block);
  }
  /// Ranges of the bytes that move, in megabytes.
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges(const Block& block) const {
    std::vector<std::pair<std::int64_t, std::int64_t>> out;
    for (const Demand& demand : block.demands) {
      EXPECT_EQ(demand.range.bundle, bundle_of(plan, {0}, {1}));
      EXPECT_TRUE(demand.shares.empty());
      out.emplace_back(demand.range.begin / kMega, demand.range.end / kMega);
    }
    return out;
  }
  /// Of the memory of rank 0, the only one that copies, in megabytes.
  std::int64_t copied(const Block& block) const {
    std::int64_t sum = 0;
    for (const BaseLoad& load : block.base) {
      EXPECT_EQ(load.resource, plan.options.machine->resource(ResourceKind::kMemory, 0));
      sum += load.bytes;
    }
    return sum / kMega;
  }
  Plan plan;
};

using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;

TEST(BlocksTest, WithoutALimitAllIsOneBlock) {
  const ThreeGroups given;
  for (const std::int64_t size : {0, 4, 5}) {
    const std::vector<Block> blocks = given.blocks(size);
    ASSERT_EQ(blocks.size(), 1U);
    EXPECT_EQ(given.ranges(blocks[0]), (Ranges{{0, 8}}));
    EXPECT_EQ(given.copied(blocks[0]), 6);  // read and written
    EXPECT_EQ(blocks[0].first_like, 0);
  }
}

TEST(BlocksTest, HaveConsecutiveGroupsAndTheirCopies) {
  const ThreeGroups given;
  const std::vector<Block> blocks = given.blocks(2);
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(given.ranges(blocks[0]), (Ranges{{0, 6}}));
  EXPECT_EQ(given.copied(blocks[0]), 0);
  EXPECT_EQ(given.ranges(blocks[1]), (Ranges{{6, 8}}));
  EXPECT_EQ(given.copied(blocks[1]), 6);
  EXPECT_EQ(blocks[1].first_like, 1);
}

TEST(BlocksTest, KnowWhichOfThemAreAlike) {
  const ThreeGroups given;
  const std::vector<Block> blocks = given.blocks(1);
  ASSERT_EQ(blocks.size(), 4U);
  const Ranges expected[] = {{{0, 2}}, {{2, 6}}, {}, {{6, 8}}};
  const std::int64_t first_like[] = {0, 1, 2, 0};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(given.ranges(blocks[i]), expected[i]);
    EXPECT_EQ(blocks[i].first_like, first_like[i]);
  }
}

/// Any groups of any tensors: pieces of a bundle follow each other without gaps, each in the block of its groups.
TEST(BlocksTest, TogetherHaveEveryByteThatMovesOnce) {
  const Machine machine = testing::hand_machine({{0}, {1}, {1}, {2}});
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    optimum::Random random(seed);
    std::vector<Placed> tensors(static_cast<std::size_t>(random.between(1, 12)));
    for (Placed& placed : tensors) {
      placed = {random.between(1, 9), random.between(0, 7), {random.between(0, 1)}, {random.between(1, 3)}};
    }
    const Plan plan = testing::prepared(machine, tensors);
    const std::int64_t size = random.between(1, 4);
    const std::vector<Block> blocks = blocks_of(plan, DomainSets(machine, plan.sets), size);
    std::map<std::int32_t, std::int64_t> ends;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      for (const Demand& demand : blocks[i].demands) {
        const auto [bundle, begin, end] = demand.range;
        EXPECT_EQ(begin, ends[bundle]);
        EXPECT_LT(begin, end);
        ends[bundle] = end;
        const Strands strands = plan.strands(at(plan.bundles, bundle));
        for (std::size_t s = 0; s < strands.size(); ++s) {
          if (strands[s].end_bytes <= begin || strands[s].begin_bytes >= end) continue;
          EXPECT_EQ(at(plan.tensors, strands[s].tensor).group / size, static_cast<std::int64_t>(i));
        }
      }
    }
    std::int64_t num_moved = 0;
    for (const Placed& placed : tensors) num_moved += placed.from == placed.to ? 0 : placed.rows * 1000;
    for (const auto& [bundle, end] : ends) {
      EXPECT_EQ(end, at(plan.bundles, bundle).size_bytes);
      num_moved -= end;
    }
    EXPECT_EQ(num_moved, 0);
  }
}

}  // namespace
}  // namespace reshard::routing
