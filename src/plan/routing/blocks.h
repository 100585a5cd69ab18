// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where receivers accept few groups at once, all begin with the first one and go through blocks of consecutive groups
// together: each block is a problem of its own, and their times add up. That is an order that every receiver accepts,
// whatever freer one it would accept too.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/routing/solve.h"

namespace reshard::routing {

/// What is routed at a time.
struct Block {
  std::vector<Demand> demands;
  std::vector<BaseLoad> base;
  std::int64_t first_like = 0;  ///< the first block of the same bundles with as many bytes each; itself where none is
};

/// Sizes of blocks, in groups, that at most `open_groups` allow, the largest first: those that divide the groups most
/// evenly into 1, 2, ... blocks. @pre both above 0
std::vector<std::int64_t> block_sizes(std::int64_t num_groups, std::int64_t open_groups);

/// All bytes of the plan, by blocks of so many groups; 0: one block.
std::vector<Block> blocks_of(const Plan& plan, const DomainSets& domains, std::int64_t groups_per_block);

}  // namespace reshard::routing
