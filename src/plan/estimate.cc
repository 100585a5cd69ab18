// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The time of a plan as the sum of two things: what its busiest resource takes for all that passes it, as if it never
// stood idle; and how long the longest chain takes to fill. The fluid simulation (report/simulate_plan) is the second
// opinion: it also sees flows that are slowed down elsewhere on their way and leave a resource idle.
#include "src/plan/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

/// Blocks of k groups in the receivers' order, one after the other; a single one where nothing limits open groups. As
/// if nobody began a block before all had ended the last one. Limits slide, so that a run may do better. Blocks differ
/// in what binds: of a pipeline each has other senders, and the sum of their times is then far above the busiest
/// resource of the whole.
class Blocks {
 public:
  explicit Blocks(const Plan& plan) : plan_(plan), groups_per_block_(plan.options.open_groups) {
    if (groups_per_block_ == 0) return;
    const auto num_groups = static_cast<std::int64_t>(plan.groups.size());
    bytes_.resize(static_cast<std::size_t>(std::max<std::int64_t>(1, ceil_div(num_groups, groups_per_block_))));
    splitter_.emplace(plan);
  }

  std::size_t size() const { return bytes_.size(); }

  /// The bytes of a route in each block. Valid until the next call.
  const std::vector<std::int64_t>& of_route(const Route& route) {
    if (groups_per_block_ == 0) {
      bytes_ = {route.size_bytes};
      return bytes_;
    }
    std::fill(bytes_.begin(), bytes_.end(), 0);
    for (const Range& range : plan_.ranges_of(route)) add(range, route.first_group);
    return bytes_;
  }

  /// The same of a bundle that a rank copies within its memory.
  const std::vector<std::int64_t>& of_local_copy(std::int32_t bundle, std::int32_t rank) {
    const std::int64_t size_bytes = at(plan_.bundles, bundle).size_bytes;
    if (groups_per_block_ == 0) {
      bytes_ = {size_bytes};
      return bytes_;
    }
    std::fill(bytes_.begin(), bytes_.end(), 0);
    add({bundle, 0, size_bytes}, at(plan_.first_groups, rank));
    return bytes_;
  }

 private:
  void add(const Range& range, std::int32_t first_group) {
    parts_.clear();
    splitter_->split(range, &parts_);
    for (const GroupBytes& part : parts_) {
      at(bytes_, plan_.position_of(part.group, first_group) / groups_per_block_) += part.bytes;
    }
  }

  const Plan& plan_;
  std::int64_t groups_per_block_;  // 0: all
  std::optional<GroupSplitter> splitter_;
  std::vector<GroupBytes> parts_;
  std::vector<std::int64_t> bytes_ = {0};
};

using BlockLoads = std::vector<std::vector<std::int64_t>>;  // [block][resource]

void add_uses(const std::vector<std::int32_t>& uses, const std::vector<std::int64_t>& bytes, BlockLoads* loads) {
  for (std::size_t block = 0; block < bytes.size(); ++block) {
    if (bytes[block] == 0) continue;
    for (const std::int32_t resource : uses) at((*loads)[block], resource) += bytes[block];
  }
}

BlockLoads block_loads(const Plan& plan, Blocks* blocks) {
  const Machine& machine = *plan.options.machine;
  BlockLoads loads(blocks->size());
  for (auto& of_block : loads) of_block.resize(static_cast<std::size_t>(machine.num_resources()));
  std::vector<std::int32_t> uses;
  for (const Route& route : plan.routes) {
    uses.clear();
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      machine.append_uses(RankId(hop.src), RankId(hop.dst), &uses);
    }
    add_uses(uses, blocks->of_route(route), &loads);
  }
  for_each_local_copy(plan, [&](std::int32_t bundle, std::int32_t rank) {
    uses.clear();
    machine.append_uses(RankId(rank), RankId(rank), &uses);
    if (!uses.empty()) add_uses(uses, blocks->of_local_copy(bundle, rank), &loads);
  });
  return loads;
}

std::vector<std::int64_t> sum_of(const BlockLoads& blocks) {
  std::vector<std::int64_t> out = blocks.front();
  for (std::size_t block = 1; block < blocks.size(); ++block) {
    for (std::size_t r = 0; r < out.size(); ++r) out[r] += blocks[block][r];
  }
  return out;
}

double seconds_of(const Machine& machine, const BlockLoads& blocks) {
  double seconds = 0;
  for (const auto& of_block : blocks) seconds += busiest(machine, of_block).seconds;
  return seconds;
}

/// Of the hops of a route those that a switch could make of one: by rank that sends them, how many.
std::map<std::int32_t, std::int64_t> stars_of(const Plan& plan, const Route& route) {
  const Machine& machine = *plan.options.machine;
  std::map<std::int32_t, std::int64_t> stars;
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop& hop = plan.begin_hops(route)[h];
    const bool can = machine.same_domain(RankId(hop.src), RankId(hop.dst)) &&
                     at(machine.gpus, hop.src).multicast_permille > 0 &&
                     at(machine.gpus, hop.dst).multicast_permille > 0;
    if (can) ++stars[hop.src];
  }
  std::erase_if(stars, [](const auto& star) { return star.second < 2; });
  return stars;
}

/// Takes from the loads what switches that multicast would save: a rank reads and sends once what it sends to several,
/// at what multicast reaches of the link's rate. Those who receive get as much as before. Whether that is anything.
bool apply_multicast(const Plan& plan, Blocks* blocks, BlockLoads* loads) {
  const Machine& machine = *plan.options.machine;
  bool is_any = false;
  for (const Route& route : plan.routes) {
    for (const auto& [rank, num_hops] : stars_of(plan, route)) {
      is_any = true;
      const std::vector<std::int64_t>& bytes = blocks->of_route(route);
      const Machine::Gpu& gpu = at(machine.gpus, rank);
      for (std::size_t block = 0; block < bytes.size(); ++block) {
        if (gpu.link.is_limited()) {
          const Wide once = Wide{bytes[block]} * 1000 / gpu.multicast_permille;
          at((*loads)[block], machine.resource(ResourceKind::kLinkOut, rank)) +=
              static_cast<std::int64_t>(once) - num_hops * bytes[block];
        }
        if (gpu.memory.is_limited()) {
          at((*loads)[block], machine.resource(ResourceKind::kMemory, rank)) -= (num_hops - 1) * bytes[block];
        }
      }
    }
  }
  return is_any;
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
  const Machine& machine = *plan.options.machine;
  Estimate out;
  Blocks blocks(plan);
  BlockLoads loads = block_loads(plan, &blocks);
  out.loads = sum_of(loads);
  out.seconds = seconds_of(machine, loads);
  if (const Busiest most = busiest(machine, out.loads); most.resource >= 0) {
    out.resource = machine.describe(most.resource);
  }
  for (const Route& route : plan.routes) out.fill_seconds = std::max(out.fill_seconds, fill_seconds_of(plan, route));
  out.seconds += out.fill_seconds;
  if (apply_multicast(plan, &blocks, &loads)) {
    const double seconds = seconds_of(machine, loads) + out.fill_seconds;
    if (seconds < out.seconds) out.multicast_seconds = seconds;
  }
  out.bounds = find_bounds(plan, out.loads);
  out.bound = largest(out.bounds);
  // Integer divisions and sums of doubles differ in the last digits.
  if (out.seconds >= out.bound.seconds * (1 - 1e-9)) return out;
  return Status(RESHARD_ERR_INTERNAL, fmt::format("the estimate of {} s is below the bound {} of {} s ({})",
                                                  out.seconds, out.bound.name, out.bound.seconds, out.bound.resource));
}

}  // namespace reshard
