// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/plan/routing/grow_tree.h"
#include "tests/unit/plan/routing/random_fabric.h"
#include "tests/unit/plan/routing/tree_checks.h"

namespace reshard::testing {

/// What a seed draws: a machine with loads, who has bytes and who wants them, and what grows trees for them.
struct RandomNeed {
  explicit RandomNeed(std::uint64_t seed) : random(seed) {}

  optimum::Random random;
  const RandomFabric given{random};
  const Need need = draw_need(random, given.machine.num_ranks());
  const AskedFor asked{given.machine, need};
  routing::TreeGrower grower{given.fabric, given.uses, given.prices};
};

}  // namespace reshard::testing
