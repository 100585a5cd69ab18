// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include "src/plan/routing/solve.h"
#include "tests/unit/plan/hand_machine.h"

namespace reshard::testing {

/// Bytes that some ranks hold and some want.
struct Asked {
  std::vector<std::int32_t> holders, wanted;  ///< ascending
  std::int64_t bytes = 0;
  std::vector<routing::Former> former{};  ///< what is left of trees that they had
};

/// What the solver chooses where everything is to be routed at once. Loads are counted here, from arcs and the machine.
class Solved {
 public:
  Solved(const Machine& given, const std::vector<Asked>& all, const std::vector<routing::BaseLoad>& base = {})
      : machine(given), loads_(static_cast<std::size_t>(machine.num_resources())) {
    plan_.num_ranks = machine.num_ranks();
    for (const Asked& asked : all) {
      const auto number = static_cast<std::int32_t>(plan_.bundles.size());
      plan_.bundles.push_back({plan_.sets.intern(asked.holders), plan_.sets.intern(asked.wanted), asked.bytes});
      demands.push_back({{number, 0, asked.bytes}, {}, asked.former});
    }
    const DomainSets domains(machine, plan_.sets);
    const routing::Fabric fabric(machine);
    const routing::Uses uses(fabric);
    routing::Solver solver(plan_, fabric, uses, domains);
    status = solver.solve(base, &demands);
    if (!status.ok()) return;
    is_at_limit = solver.is_at_limit();
    solver_seconds = static_cast<double>(solver.time().bytes) / static_cast<double>(solver.time().bytes_per_s);
    for (const routing::BaseLoad& load : base) at(loads_, load.resource) += load.bytes;
    for (const routing::Demand& demand : demands) count(demand);
  }

  std::int64_t load(ResourceKind kind, std::int32_t index) const { return at(loads_, machine.resource(kind, index)); }
  /// Of the busiest resource.
  double seconds() const {
    double most = 0;
    for (std::int32_t r = 0; r < machine.num_resources(); ++r) {
      if (!machine.link_of(r).is_limited()) continue;
      most = std::max(most, static_cast<double>(at(loads_, r)) / static_cast<double>(machine.link_of(r).bytes_per_s()));
    }
    return most;
  }
  /// Expects the time that no choice can beat, within what the solver promises, and that it knows that none can.
  void expect_seconds(double least, bool is_proved = true) const {
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_GE(seconds(), least * 0.999999);
    EXPECT_LE(seconds(), least * 1.0101);
    EXPECT_NEAR(solver_seconds, seconds(), least * 1e-9);
    EXPECT_TRUE(is_at_limit || !is_proved);
  }
  /// Bytes that ranks only pass on.
  std::int64_t num_staged() const { return num_staged_; }

  Machine machine;
  std::vector<routing::Demand> demands;
  Status status;
  bool is_at_limit = false;
  double solver_seconds = 0;

 private:
  void count(const routing::Demand& demand) {
    std::int64_t sum = 0;
    for (const routing::Share& share : demand.shares) {
      EXPECT_GT(share.bytes, 0);
      sum += share.bytes;
      for (const routing::Tree::Arc& arc : share.tree->arcs) {
        if (arc.to_staging) num_staged_ += share.bytes;
        std::vector<std::int32_t> passed;
        machine.append_uses(RankId(arc.src), RankId(arc.dst), &passed);
        for (const std::int32_t resource : passed) at(loads_, resource) += share.bytes;
      }
    }
    EXPECT_EQ(sum, demand.bytes());
  }

  Plan plan_;
  std::vector<std::int64_t> loads_;
  std::int64_t num_staged_ = 0;
};

/// first, first + 1, ...
inline std::vector<std::int32_t> ranks_from(std::int32_t first, std::int32_t count) {
  std::vector<std::int32_t> out;
  for (std::int32_t i = 0; i < count; ++i) out.push_back(first + i);
  return out;
}

}  // namespace reshard::testing
