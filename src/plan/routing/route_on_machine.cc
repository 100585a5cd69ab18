// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/route_on_machine.h"

#include <utility>

#include "src/base/at.h"
#include "src/plan/routing/blocks.h"
#include "src/plan/routing/emit.h"
#include "src/plan/routing/former_trees.h"
#include "src/plan/routing/least_time.h"
#include "src/plan/routing/sections.h"

namespace reshard::routing {
namespace {

// Of a plan that is made from an older one: within 1 / 60 of what no choice can beat nothing more is moved.
constexpr std::int64_t kGoodAgainPart = 60;

/// Times add up. Whole nanoseconds are exact enough to choose by.
std::int64_t nanoseconds(const Time& time) {
  return static_cast<std::int64_t>(Wide{time.bytes} * 1'000'000'000 / time.bytes_per_s);
}

class MachineRouter {
 public:
  /// @param former what bytes had before; null where there was nothing
  MachineRouter(const Fabric& fabric, FormerTrees* former, Plan* plan)
      : plan_(*plan), fabric_(fabric), uses_(fabric_), domains_(fabric_.machine, plan->sets), former_(former) {}

  /// A plan from older trees that is not proved to be good may be held up by them: it is measured by one made anew.
  Status run(Rerouted* rerouted) {
    plan_.first_groups.assign(static_cast<std::size_t>(plan_.num_ranks), 0);
    RESHARD_TRY(Choice best, choose(former_));
    if (former_ != nullptr && !best.is_proved) {
      RESHARD_TRY(Choice anew, choose(nullptr));
      if (anew.time_ns + anew.time_ns / kGoodAgainPart < best.time_ns) {
        give_former(&anew.blocks);
        best = std::move(anew);
      }
    }
    emit(std::move(best), rerouted);
    return {};
  }

  struct Choice {
    std::vector<Block> blocks;
    std::int64_t time_ns = -1;
    bool is_proved = true;  ///< for each block, that no choice is much better
  };

  void emit(Choice choice, Rerouted* rerouted) {
    for (Block& block : choice.blocks) {
      for (const Demand& demand : block.demands) rerouted->bytes += demand.bytes();
      rerouted->bytes_kept += emit_routes(fabric_, std::move(block.demands), &plan_);
    }
  }

  Result<Choice> choose(FormerTrees* former) {
    const std::int64_t num_groups = std::max<std::int64_t>(1, std::ssize(plan_.groups));
    const std::int64_t open_groups = plan_.options.open_groups;
    const std::vector<std::int64_t> sizes =
        open_groups == 0 ? std::vector<std::int64_t>{0} : block_sizes(num_groups, open_groups);
    Choice best;
    for (const std::int64_t size : sizes) {
      Choice now;
      now.blocks = blocks_of(plan_, domains_, size);
      // Most often what limits blocks limits smaller ones as much.
      if (best.time_ns >= 0 && least_time_of(now) >= best.time_ns - best.time_ns / 100) continue;
      if (former != nullptr) give_former(&now.blocks);
      RESHARD_TRY(solve(former == nullptr ? Solver::kGoodPart : kGoodAgainPart, &now));
      if (best.time_ns < 0 || now.time_ns < best.time_ns) best = std::move(now);
    }
    return best;
  }

  /// In nanoseconds, whatever is chosen for the blocks.
  std::int64_t least_time_of(const Choice& choice, std::size_t num_sections = 1) const {
    std::int64_t sum = 0;
    for (const Block& block : choice.blocks) {
      sum += nanoseconds(least_time(plan_, fabric_, domains_, block.demands, num_sections));
    }
    return sum;
  }

 private:
  void give_former(std::vector<Block>* blocks) const {
    for (Block& block : *blocks) {
      for (Demand& demand : block.demands) former_->give(&demand);
    }
  }

  /// Equal blocks are solved once.
  Status solve(std::int64_t good_part, Choice* choice) const {
    std::vector<Block>& blocks = choice->blocks;
    std::vector<std::int64_t> times(blocks.size());
    choice->time_ns = 0;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      Block& block = blocks[i];
      const Block& like = at(blocks, block.first_like);
      if (&like != &block) {
        for (std::size_t d = 0; d < block.demands.size(); ++d) block.demands[d].shares = like.demands[d].shares;
        times[i] = at(times, block.first_like);
      } else {
        Solver solver(plan_, fabric_, uses_, domains_);
        RESHARD_TRY(solver.solve(block.base, &block.demands, good_part));
        times[i] = nanoseconds(solver.time());
        choice->is_proved = choice->is_proved && solver.is_at_limit();
      }
      choice->time_ns += times[i];
    }
    return {};
  }

  Plan& plan_;
  const Fabric& fabric_;
  const Uses uses_;
  const DomainSets domains_;
  FormerTrees* former_;
};

/// Of trees, one for each bundle; those who hold it already are counted, too.
std::int64_t num_hops(const Plan& plan) {
  std::int64_t hops = 0;
  for (const Bundle& bundle : plan.bundles) {
    if (bundle.size_bytes > 0) hops += std::ssize(plan.sets.ranks(bundle.destinations));
  }
  return hops;
}

/// Chooses for one section. That is as good as a choice for the whole where nothing could be much better; else both are
/// made, and the better one is taken: sections may help each other.
Status route_sections(const Sections& sections, Plan* plan) {
  Plan job = job_of_section(*plan, sections);
  const Fabric fabric(*job.options.machine);
  MachineRouter router(fabric, nullptr, &job);
  Result<MachineRouter::Choice> of_section = router.choose(nullptr);
  bool is_taken = false;
  if (of_section.ok()) {
    const std::int64_t least = router.least_time_of(*of_section, sections.count());
    is_taken = of_section->time_ns <= least + least / Solver::kGoodPart;
  }
  if (!is_taken) {
    const Fabric whole_fabric(*plan->options.machine);
    MachineRouter whole(whole_fabric, nullptr, plan);
    RESHARD_TRY(MachineRouter::Choice of_whole, whole.choose(nullptr));
    if (!of_section.ok() || of_whole.time_ns < of_section->time_ns) {
      Rerouted unused;
      whole.emit(std::move(of_whole), &unused);
      return {};
    }
  }
  for (Block& block : of_section->blocks) {
    emit_routes_of_sections(fabric, std::move(block.demands), sections.ranks, plan);
  }
  return {};
}

}  // namespace

Status route_on_machine(Plan* plan, std::int64_t large_job) {
  plan->first_groups.assign(static_cast<std::size_t>(plan->num_ranks), 0);
  if (plan->options.open_groups == 0 && num_hops(*plan) >= large_job) {
    const Sections sections = find_sections(*plan);
    if (sections.count() >= 2) return route_sections(sections, plan);
  }
  Rerouted unused;
  const Fabric fabric(*plan->options.machine);
  return MachineRouter(fabric, nullptr, plan).run(&unused);
}

Status reroute_on_machine(const Plan& old, Plan* plan, Rerouted* rerouted) {
  const Fabric fabric(*plan->options.machine);
  FormerTrees former(old, *plan, fabric);
  return MachineRouter(fabric, &former, plan).run(rerouted);
}

}  // namespace reshard::routing
