// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/route_on_machine.h"

#include "src/base/at.h"
#include "src/plan/routing/blocks.h"
#include "src/plan/routing/emit.h"
#include "src/plan/routing/least_time.h"

namespace reshard::routing {
namespace {

/// Times add up. Whole nanoseconds are exact enough to choose by.
std::int64_t nanoseconds(const Time& time) {
  return static_cast<std::int64_t>(Wide{time.bytes} * 1'000'000'000 / time.bytes_per_s);
}

class MachineRouter {
 public:
  explicit MachineRouter(Plan* plan)
      : plan_(*plan), fabric_(*plan->options.machine), uses_(fabric_), domains_(fabric_.machine, plan->sets) {}

  Status run() {
    plan_.first_groups.assign(static_cast<std::size_t>(plan_.num_ranks), 0);
    const std::int64_t num_groups = std::max<std::int64_t>(1, std::ssize(plan_.groups));
    const std::int64_t open_groups = plan_.options.open_groups;
    const std::vector<std::int64_t> sizes =
        open_groups == 0 ? std::vector<std::int64_t>{0} : block_sizes(num_groups, open_groups);
    std::vector<Block> best;
    std::int64_t best_time = -1;
    for (const std::int64_t size : sizes) {
      std::vector<Block> blocks = blocks_of(plan_, domains_, size);
      // Most often what limits blocks limits smaller ones as much.
      if (best_time >= 0 && least_time_of(blocks) >= best_time - best_time / 100) continue;
      std::int64_t time = 0;
      RESHARD_TRY(solve(&blocks, &time));
      if (best_time >= 0 && time >= best_time) continue;
      best = std::move(blocks);
      best_time = time;
    }
    for (const Block& block : best) emit_routes(fabric_, block.demands, &plan_);
    return {};
  }

 private:
  std::int64_t least_time_of(const std::vector<Block>& blocks) const {
    std::int64_t sum = 0;
    for (const Block& block : blocks) sum += nanoseconds(least_time(plan_, fabric_, domains_, block.demands));
    return sum;
  }

  /// Equal blocks are solved once.
  Status solve(std::vector<Block>* blocks, std::int64_t* sum) const {
    std::vector<std::int64_t> times(blocks->size());
    for (std::size_t i = 0; i < blocks->size(); ++i) {
      Block& block = (*blocks)[i];
      const Block& like = at(*blocks, block.first_like);
      if (&like != &block) {
        for (std::size_t d = 0; d < block.demands.size(); ++d) block.demands[d].shares = like.demands[d].shares;
        times[i] = at(times, block.first_like);
      } else {
        Solver solver(plan_, fabric_, uses_, domains_);
        RESHARD_TRY(solver.solve(block.base, &block.demands));
        times[i] = nanoseconds(solver.time());
      }
      *sum += times[i];
    }
    return {};
  }

  Plan& plan_;
  const Fabric fabric_;
  const Uses uses_;
  const DomainSets domains_;
};

}  // namespace

Status route_on_machine(Plan* plan) {
  return MachineRouter(plan).run();
}

}  // namespace reshard::routing
