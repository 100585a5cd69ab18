// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>

#include "src/plan/windows.h"

namespace reshard {
namespace {

/// What one pair of ranks exchanges, in numbers.
struct PairWindows {
  std::int64_t num_messages = 0;
  std::int64_t largest_bytes = 0;
  std::map<int, std::int64_t> count_of_size;  // by size class
};

PairWindows count_pair(const Plan& plan, const std::vector<Flow>& flows) {
  PairWindows out;
  for (const Window& window : windows_of(plan, flows)) {
    ++out.num_messages;
    out.largest_bytes = std::max(out.largest_bytes, window.size_bytes);
    ++out.count_of_size[static_cast<int>(std::bit_width(static_cast<std::uint64_t>(window.size_bytes) - 1))];
  }
  return out;
}

/// Pairs that exchange the same bundle ranges exchange the same windows: replicas are counted once and multiplied.
class WindowCounter {
 public:
  explicit WindowCounter(const Plan& plan) : plan_(plan) {}

  const PairWindows& count(const std::vector<Flow>& flows) {
    std::vector<std::int64_t> key;
    for (const Flow& flow : flows) key.insert(key.end(), {flow.bundle, flow.begin, flow.end});
    const auto [entry, is_new] = known_.try_emplace(std::move(key));
    if (is_new) entry->second = count_pair(plan_, flows);
    return entry->second;
  }

 private:
  const Plan& plan_;
  std::map<std::vector<std::int64_t>, PairWindows> known_;
};

struct RankCount {
  std::int64_t sent_bytes = 0;
  std::int64_t received_bytes = 0;
  std::int64_t num_sends = 0;
  std::int64_t num_receives = 0;
  std::int64_t largest_bytes = 0;
  bool can_send = false;
};

void count_messages(const Plan& plan, std::vector<RankCount>* ranks, PlanStats* stats) {
  std::vector<Flow> flows;
  for_each_flow(plan, [&](const Flow& flow) { flows.push_back(flow); });
  std::stable_sort(flows.begin(), flows.end(), [](const Flow& a, const Flow& b) {
    return std::pair{a.dst, a.src} < std::pair{b.dst, b.src};
  });
  WindowCounter counter(plan);
  for (auto first = flows.begin(); first != flows.end();) {
    auto last = first;
    std::int64_t bytes = 0;
    for (; last != flows.end() && last->dst == first->dst && last->src == first->src; ++last) {
      bytes += last->end - last->begin;
    }
    const PairWindows& windows = counter.count({first, last});
    RankCount& src = at(*ranks, first->src);
    RankCount& dst = at(*ranks, first->dst);
    src.sent_bytes += bytes;
    dst.received_bytes += bytes;
    src.num_sends += windows.num_messages;
    dst.num_receives += windows.num_messages;
    src.largest_bytes = std::max(src.largest_bytes, windows.largest_bytes);
    dst.largest_bytes = std::max(dst.largest_bytes, windows.largest_bytes);
    stats->num_messages += windows.num_messages;
    for (const auto& [size_class, count] : windows.count_of_size) {
      stats->messages_up_to[static_cast<std::size_t>(std::min(size_class, PlanStats::kSizeClasses - 1))] += count;
    }
    first = last;
  }
}

void add_rank(std::int64_t bytes, PlanStats::Side* side) {
  side->max_bytes = std::max(side->max_bytes, bytes);
  side->total_bytes += bytes;
  ++side->num_ranks;
  side->num_used += bytes > 0 ? 1 : 0;
}

nlohmann::json side_json(const PlanStats::Side& side) {
  const double mean = side.mean_bytes();
  return {{"max_bytes", side.max_bytes},
          {"mean_bytes", mean},
          {"max_over_mean", mean > 0 ? static_cast<double>(side.max_bytes) / mean : 1.0},
          {"bound_bytes", side.bound_bytes},
          {"ranks", side.num_ranks},
          {"used", side.num_used}};
}

}  // namespace

PlanStats count_plan(const Plan& plan) {
  PlanStats stats;
  std::vector<RankCount> ranks(static_cast<std::size_t>(plan.num_ranks));
  for (const Pool& pool : plan.pools) {
    for (const std::int32_t rank : plan.sets.ranks(pool.sources)) at(ranks, rank).can_send = true;
  }
  for (const Bundle& bundle : plan.bundles) {
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (plan.sets.contains(bundle.sources, rank)) stats.bytes_local += bundle.size_bytes;
    }
  }
  count_messages(plan, &ranks, &stats);
  for (const RankCount& rank : ranks) {
    if (rank.can_send) add_rank(rank.sent_bytes, &stats.senders);
    if (rank.received_bytes > 0) add_rank(rank.received_bytes, &stats.receivers);
    const std::int64_t slots = std::min<std::int64_t>(plan.num_slots, rank.num_sends) +
                               std::min<std::int64_t>(plan.num_slots, rank.num_receives);
    stats.staging_bytes = std::max(stats.staging_bytes, slots * rank.largest_bytes);
  }
  stats.bytes_crossed = stats.receivers.total_bytes;
  stats.senders.bound_bytes = plan.certificate.bound_bytes;
  // What a rank needs and does not hold must come to it, whatever the choice of sources.
  stats.receivers.bound_bytes = stats.receivers.max_bytes;
  return stats;
}

std::string report_json(const Plan& plan, const PlanStats& stats, double planning_seconds) {
  nlohmann::json sizes = nlohmann::json::array();
  for (std::size_t i = 0; i < stats.messages_up_to.size(); ++i) {
    if (stats.messages_up_to[i] == 0) continue;
    sizes.push_back({{"up_to_bytes", std::int64_t{1} << i}, {"count", stats.messages_up_to[i]}});
  }
  const nlohmann::json report = {
      {"hash", fmt::format("{:016x}", plan.hash)},
      {"ranks", plan.num_ranks},
      {"tensors", plan.tensors.size()},
      {"groups", plan.groups.size()},
      {"atoms", plan.num_atoms()},
      {"bundles", plan.bundles.size()},
      {"messages", stats.num_messages},
      {"message_sizes", sizes},
      {"bytes_crossed", stats.bytes_crossed},
      {"bytes_local", stats.bytes_local},
      {"staging_bytes", stats.staging_bytes},
      {"staging_budget_bytes", plan.options.staging_bytes},
      {"window_bytes", plan.window_bytes},
      {"senders", side_json(stats.senders)},
      {"receivers", side_json(stats.receivers)},
      {"certificate", {{"level_bytes", plan.certificate.level_bytes}, {"bound_bytes", plan.certificate.bound_bytes}}},
      {"bound_bytes", std::max(stats.senders.bound_bytes, stats.receivers.bound_bytes)},
      {"planning_seconds", planning_seconds},
  };
  return report.dump();
}

}  // namespace reshard
