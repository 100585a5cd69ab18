// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/route_on_machine.h"

#include "src/base/at.h"
#include "src/plan/routing/blocks.h"
#include "src/plan/routing/emit.h"

namespace reshard::routing {

Status route_on_machine(Plan* plan) {
  const Fabric fabric(*plan->options.machine);
  const Uses uses(fabric);
  const DomainSets domains(fabric.machine, plan->sets);
  plan->first_groups.assign(static_cast<std::size_t>(plan->num_ranks), 0);
  const std::int64_t num_groups = std::max<std::int64_t>(1, std::ssize(plan->groups));
  const std::int64_t open_groups = plan->options.open_groups;
  const std::int64_t size = open_groups == 0 ? 0 : block_sizes(num_groups, open_groups).front();
  std::vector<Block> blocks = blocks_of(*plan, domains, size);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    Block& block = blocks[i];
    if (const Block& like = at(blocks, block.first_like); &like != &block) {
      for (std::size_t d = 0; d < block.demands.size(); ++d) block.demands[d].shares = like.demands[d].shares;
    } else {
      Solver solver(*plan, fabric, uses, domains);
      RESHARD_TRY(solver.solve(block.base, &block.demands));
    }
  }
  for (const Block& block : blocks) emit_routes(fabric, block.demands, plan);
  return {};
}

}  // namespace reshard::routing
