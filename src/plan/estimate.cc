// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The time of a plan as the sum of two things: what its busiest resource takes for all that passes it, as if it never
// stood idle; and how long the longest chain takes to fill. The fluid simulation (report/simulate_plan) is the second
// opinion: it also sees flows that are slowed down elsewhere on their way and leave a resource idle.
#include "src/plan/estimate.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

/// The busiest resource of each block of k groups in the receivers' order, one block after the other: as if nobody
/// began a block before all had ended the last one. Limits slide, so that a run may do better. Blocks differ in what
/// binds: of a pipeline each has other senders, and the sum is then far above the busiest resource of the whole.
double in_order(const Plan& plan) {
  const Machine& machine = *plan.options.machine;
  const std::int64_t k = plan.options.open_groups;
  const std::size_t num_blocks = (plan.groups.size() + static_cast<std::size_t>(k) - 1) / static_cast<std::size_t>(k);
  const GroupSplitter splitter(plan);
  std::vector<std::vector<std::int64_t>> loads(num_blocks);
  for (auto& of_block : loads) of_block.resize(static_cast<std::size_t>(machine.num_resources()));
  std::vector<GroupBytes> parts;
  std::vector<std::int32_t> path;
  for (const Route& route : plan.routes) {
    std::vector<std::int64_t> bytes(num_blocks);
    for (const Range& range : plan.ranges_of(route)) {
      parts.clear();
      splitter.split(range, &parts);
      for (const GroupBytes& part : parts) at(bytes, plan.position_of(part.group, route.first_group) / k) += part.bytes;
    }
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      path.clear();
      machine.append_path(RankId(hop.src), RankId(hop.dst), &path);
      for (std::size_t block = 0; block < num_blocks; ++block) {
        if (bytes[block] == 0) continue;
        for (const std::int32_t resource : path) at(loads[block], resource) += bytes[block];
      }
    }
  }
  double seconds = 0;
  for (const auto& of_block : loads) seconds += busiest(machine, of_block).seconds;
  return seconds;
}

/// The rank whose memory takes longest to write what comes to it. (Memory is no resource of the machine: it is far from
/// the limit on any real one, but a file may say otherwise.)
Busiest busiest_memory(const Plan& plan) {
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(plan.num_ranks));
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) at(bytes, plan.begin_hops(route)[h].dst) += route.size_bytes;
  }
  Busiest out;
  for (std::int32_t rank = 0; rank < plan.num_ranks; ++rank) {
    const std::int64_t rate = at(plan.options.machine->gpus, rank).memory_bytes_per_s;
    if (rate == 0) continue;
    const double seconds = static_cast<double>(at(bytes, rank)) / static_cast<double>(rate);
    if (seconds > out.seconds) out = {seconds, rank};
  }
  return out;
}

}  // namespace

/// A rank sends a window on when it has all of it, so each hop takes the latency of its way and the window's time on
/// the slowest resource there. Not so the first: there the time is a part of what the busiest resource takes.
double fill_seconds_of(const Plan& plan, const Route& route) {
  std::vector<std::int32_t> path;
  const Machine& machine = *plan.options.machine;
  const auto window = static_cast<double>(std::min(plan.window_bytes, route.size_bytes));
  std::vector<double> arrived;  // by hop
  double last = 0;
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop& hop = plan.begin_hops(route)[h];
    double seconds = static_cast<double>(machine.latency_ns(RankId(hop.src), RankId(hop.dst))) * 1e-9;
    if (hop.parent >= 0) {
      path.clear();
      machine.append_path(RankId(hop.src), RankId(hop.dst), &path);
      double transfer = 0;
      for (const std::int32_t resource : path) {
        transfer = std::max(transfer, window / static_cast<double>(machine.link_of(resource).bytes_per_s()));
      }
      seconds += at(arrived, hop.parent) + transfer;
    }
    arrived.push_back(seconds);
    last = std::max(last, seconds);
  }
  return last;
}

Result<Estimate> estimate(const Plan& plan) {
  Estimate out;
  out.loads = loads_of(plan);
  const Busiest most = busiest(*plan.options.machine, out.loads);
  out.seconds = most.seconds;
  if (most.resource >= 0) out.resource = plan.options.machine->describe(most.resource);
  const Busiest memory = busiest_memory(plan);
  if (memory.seconds > out.seconds) {
    out.seconds = memory.seconds;
    out.resource = fmt::format("memory of rank {}", memory.resource);
  }
  // The sum over blocks is no less than the whole in one, but for memory, which it does not count.
  if (plan.options.open_groups > 0) out.seconds = std::max(out.seconds, in_order(plan));
  for (const Route& route : plan.routes) out.fill_seconds = std::max(out.fill_seconds, fill_seconds_of(plan, route));
  out.seconds += out.fill_seconds;
  out.bounds = find_bounds(plan, out.loads);
  out.bound = largest(out.bounds);
  // Integer divisions and sums of doubles differ in the last digits.
  if (out.seconds >= out.bound.seconds * (1 - 1e-9)) return out;
  return Status(RESHARD_ERR_INTERNAL, fmt::format("the estimate of {} s is below the bound {} of {} s ({})",
                                                  out.seconds, out.bound.name, out.bound.seconds, out.bound.resource));
}

}  // namespace reshard
