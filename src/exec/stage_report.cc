// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stage_report.h"

#include <algorithm>
#include <set>
#include <utility>

namespace reshard {
namespace {

// So many windows take about a tenth of a second.
constexpr std::int64_t kFewWindows = 30'000;

/// The bytes that each rank sends and receives.
struct Traffic {
  std::vector<std::int64_t> sent;
  std::vector<std::int64_t> received;
  std::int64_t sum = 0;
};

Traffic traffic_of(const Plan& plan) {
  const auto num_ranks = static_cast<std::size_t>(plan.num_ranks);
  Traffic traffic{std::vector<std::int64_t>(num_ranks), std::vector<std::int64_t>(num_ranks)};
  for (const Route& route : plan.routes) {
    const HopIterator hops = plan.begin_hops(route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = hops[h];
      at(traffic.sent, hop.src) += route.size_bytes;
      at(traffic.received, hop.dst) += route.size_bytes;
      traffic.sum += route.size_bytes;
    }
  }
  return traffic;
}

std::set<std::int32_t> busiest_of(const std::vector<std::int64_t>& bytes, std::size_t count) {
  std::vector<std::int32_t> ranks;
  for (std::size_t r = 0; r < bytes.size(); ++r) ranks.push_back(static_cast<std::int32_t>(r));
  std::stable_sort(ranks.begin(), ranks.end(),
                   [&](std::int32_t a, std::int32_t b) { return at(bytes, a) > at(bytes, b); });
  return {ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(std::min(count, ranks.size()))};
}

RankLinks links_in_domain(const Plan& plan, std::int32_t rank) {
  RankLinks links;
  const Machine* machine = plan.options.machine.get();
  if (machine == nullptr) return links;
  RankFlags is_near(static_cast<std::size_t>(plan.num_ranks));
  for (const RankId peer : is_near.ids()) {
    is_near[peer] = peer != RankId(rank) && machine->same_domain(peer, RankId(rank));
  }
  links.reads_source = links.reads_destination = links.source_read_by = links.destination_read_by = is_near;
  return links;
}

}  // namespace

StageCounts count_stages(const StageSchedule& stages) {
  StageCounts counts;
  counts.rank = stages.schedule.rank;
  std::set<std::pair<std::int32_t, std::int32_t>> rounds;
  for (const Lanes* lanes : {&stages.schedule.out, &stages.schedule.in}) {
    for (const Lane& lane : *lanes) {
      counts.num_windows += static_cast<std::int64_t>(lane.steps.size());
      for (const WindowStep& step : lane.steps) rounds.emplace(step.order.phase, step.order.round);
    }
  }
  counts.num_rounds = static_cast<std::int64_t>(rounds.size());
  counts.num_reads = static_cast<std::int64_t>(stages.all_reads.size());
  counts.num_stages = static_cast<std::int64_t>(stages.stages.size());
  for (std::size_t s = 0; s < stages.stages.size(); ++s) {
    const auto num_operations = static_cast<std::int64_t>(stages.sends(s).size() + stages.receives(s).size());
    const std::int64_t num_launches = (stages.packs(s).empty() ? 0 : 1) + (stages.unpacks(s).empty() ? 0 : 1);
    counts.num_operations += num_operations;
    counts.most_operations = std::max(counts.most_operations, num_operations);
    counts.num_groups += num_operations > 0 ? 1 : 0;
    counts.most_launches = std::max(counts.most_launches, num_launches);
    counts.num_launches += num_launches + (stages.reads(s).empty() ? 0 : 1);
  }
  counts.staging_bytes = stages.staging_bytes();
  return counts;
}

StageCounter::StageCounter(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {
  const Traffic traffic = traffic_of(*plan_);
  // Every window is at two ranks.
  has_all_ranks_ = 2 * traffic.sum / std::max<std::int64_t>(1, plan_->window_bytes) <= kFewWindows;
  const std::size_t count = has_all_ranks_ ? traffic.sent.size() : 1;
  std::set<std::int32_t> ranks = busiest_of(traffic.sent, count);
  ranks.merge(busiest_of(traffic.received, count));
  for (const std::int32_t rank : ranks)
    schedules_.push_back(build_schedule(*plan_, rank, links_in_domain(*plan_, rank)));
}

StageReport StageCounter::count(std::int32_t most_operations) const {
  StageReport report;
  const StageLimits limits{most_operations, plan_->options.staging_bytes};
  const StageLevels needed = levels(most_operations);
  report.highest_level = highest_used(needed);
  report.level_for_staging = most_operations == 0 ? report.highest_level : highest_used(levels(0));
  for (const Schedule& schedule : schedules_) {
    report.ranks.push_back(count_stages(build_stages(*plan_, schedule, needed, limits)));
  }
  std::stable_sort(report.ranks.begin(), report.ranks.end(),
                   [](const StageCounts& a, const StageCounts& b) { return a.num_operations > b.num_operations; });
  return report;
}

StageLevels StageCounter::levels(std::int32_t most_operations) const {
  StageLevels levels;
  const StageLimits limits{most_operations, plan_->options.staging_bytes};
  for (const Schedule& schedule : schedules_) levels.raise(needed_levels(*plan_, schedule, limits));
  return levels;
}

/// Bands without windows are at whatever level costs nothing.
std::int32_t StageCounter::highest_used(const StageLevels& levels) const {
  const StageKeys keys(*plan_);
  std::int32_t highest = 0;
  for (const Schedule& schedule : schedules_) {
    for (const Lanes* lanes : {&schedule.out, &schedule.in}) {
      for (const Lane& lane : *lanes) {
        for (const WindowStep& step : lane.steps) highest = std::max(highest, keys.level_of(step, levels));
      }
    }
  }
  return highest;
}

}  // namespace reshard
