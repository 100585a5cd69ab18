// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include "src/plan/plan.h"
#include "tests/unit/plan/hand_machine.h"

namespace reshard::testing {

/// A tensor of so many rows of 1000 bytes, whole on each of some ranks, and wanted whole by each of others.
struct Placed {
  std::int64_t rows = 1;
  std::int64_t group = 0;
  std::vector<std::int32_t> from, to;
};

struct Sides {
  std::shared_ptr<ModelLayout> src, dst;
};

inline Sides sides_of(std::int32_t num_ranks, const std::vector<Placed>& tensors) {
  const Sides sides{std::make_shared<ModelLayout>(num_ranks), std::make_shared<ModelLayout>(num_ranks)};
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const Placed& placed = tensors[t];
    for (const bool is_dst : {false, true}) {
      ModelLayout& side = is_dst ? *sides.dst : *sides.src;
      const std::vector<std::int32_t>& ranks = is_dst ? placed.to : placed.from;
      const std::string name = "t" + std::to_string(t);
      const std::int64_t id = *side.add_tensor({name, DType::kU8, {placed.rows, 1000}, placed.group});
      Placement placement;
      placement.mesh = *Mesh::create({{"dp", static_cast<std::int64_t>(ranks.size())}}, ranks);
      placement.dims.resize(2);
      placement.buffer = side.add_buffer(name, DType::kU8);
      EXPECT_TRUE(side.place(id, placement).ok());
    }
  }
  return sides;
}

/// All of a plan but its routes.
inline Plan prepared(const Machine& machine, const std::vector<Placed>& tensors) {
  const Sides sides = sides_of(machine.num_ranks(), tensors);
  Result<Plan> plan = prepare_plan(sides.src, sides.dst, options_for(machine));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move(plan).take();
}

/// That from these ranks to those.
inline std::int32_t bundle_of(const Plan& plan, const std::vector<std::int32_t>& from,
                              const std::vector<std::int32_t>& to) {
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (plan.sets.ranks(bundle.sources) == from && plan.sets.ranks(bundle.destinations) == to) {
      return static_cast<std::int32_t>(b);
    }
  }
  ADD_FAILURE() << "no such bundle";
  return 0;
}

}  // namespace reshard::testing
