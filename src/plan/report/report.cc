// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Counts of a plan, and the report. Messages are counted by cutting routes into windows, as the ranks will. That takes
// long, so lists of ranges are cut once, however many routes carry them: replicas do not make the report slower.
// Nothing here is used to decide anything, hence means and quotients are doubles.
#include "src/plan/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <tuple>

#include "src/plan/report/quantised.h"
#include "src/plan/report/report_time.h"
#include "src/plan/water_fill.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

/// What travels along every hop of a route, in numbers.
struct RouteWindows {
  std::int64_t num_messages = 0;
  std::int64_t largest_bytes = 0;
  std::map<int, std::int64_t> count_of_size;  // by size class
};

RouteWindows count_windows(const Plan& plan, const Route& route) {
  RouteWindows out;
  for (const Window& window : windows_of(plan, route)) {
    ++out.num_messages;
    out.largest_bytes = std::max(out.largest_bytes, window.size_bytes);
    // Class i has more than 2^(i-1) and at most 2^i bytes; a window has at least one.
    ++out.count_of_size[static_cast<int>(std::bit_width(static_cast<std::uint64_t>(window.size_bytes) - 1))];
  }
  return out;
}

/// Routes of the same ranges have the same windows: replicas are counted once and multiplied. The group with which
/// receivers begin is part of the key, for windows follow their order.
class WindowCounter {
 public:
  explicit WindowCounter(const Plan& plan) : plan_(plan) {}

  const RouteWindows& count(const Route& route) {
    const RouteWindows*& known = of_list_[{route.first_range, route.num_ranges, route.first_group}];
    if (known == nullptr) known = &count_ranges(route);
    return *known;
  }

 private:
  /// Plans that were loaded have a list of ranges for each route: they are told apart by content.
  const RouteWindows& count_ranges(const Route& route) {
    std::vector<std::int64_t> key = {route.first_group};
    for (const Range& range : plan_.ranges_of(route)) {
      key.insert(key.end(), {range.bundle, range.begin, range.end});
    }
    const auto [entry, is_new] = known_.try_emplace(std::move(key));
    if (is_new) entry->second = count_windows(plan_, route);
    return entry->second;
  }

  const Plan& plan_;
  std::map<std::tuple<std::int64_t, std::int32_t, std::int32_t>, const RouteWindows*> of_list_;
  std::map<std::vector<std::int64_t>, RouteWindows> known_;
};

/// What one rank does. One that holds what others need counts among the senders even if it sends nothing: idle senders
/// are what max over mean is to show.
struct RankCount {
  std::int64_t sent_bytes = 0;
  std::int64_t received_bytes = 0;
  std::int64_t num_sends = 0;
  std::int64_t num_receives = 0;
  std::int64_t largest_bytes = 0;
  bool can_send = false;
};

/// Bytes that a rank passes on count at it twice, once in each direction.
void count_hop(const Route& route, const Hop& hop, const RouteWindows& windows, std::vector<RankCount>* ranks) {
  RankCount& src = at(*ranks, hop.src);
  RankCount& dst = at(*ranks, hop.dst);
  src.sent_bytes += route.size_bytes;
  dst.received_bytes += route.size_bytes;
  src.num_sends += windows.num_messages;
  dst.num_receives += windows.num_messages;
  src.largest_bytes = std::max(src.largest_bytes, windows.largest_bytes);
  dst.largest_bytes = std::max(dst.largest_bytes, windows.largest_bytes);
}

void count_route(const Plan& plan, const Route& route, const RouteWindows& windows, std::vector<RankCount>* ranks,
                 PlanStats* stats) {
  for (std::int32_t h = 0; h < route.num_hops; ++h) count_hop(route, plan.begin_hops(route)[h], windows, ranks);
  stats->num_messages += windows.num_messages * route.num_hops;
  for (const auto& [size_class, count] : windows.count_of_size) {
    stats->messages_up_to[static_cast<std::size_t>(std::min(size_class, PlanStats::kSizeClasses - 1))] +=
        count * route.num_hops;
  }
}

/// Walks over runs beside the routes, for a run says which distinct route each of its routes is.
void count_messages(const Plan& plan, std::vector<RankCount>* ranks, PlanStats* stats) {
  WindowCounter counter(plan);
  std::vector<const RouteWindows*> of_distinct;  // looked up once, however often a route is repeated
  for (const Route& route : plan.routes.distinct()) of_distinct.push_back(&counter.count(route));
  Routes::Iterator route = plan.routes.begin();
  for (std::size_t run = 0; run < plan.routes.runs().size(); ++run) {
    const std::int64_t first = plan.routes.runs()[run].first_distinct;
    for (std::int64_t i = first; i < first + plan.routes.size_of(run); ++i, ++route) {
      count_route(plan, *route, *at(of_distinct, i), ranks, stats);
    }
  }
}

/// Bytes of a bundle's elements in the dtypes of the source and of the destination.
struct BothSides {
  std::int64_t at_source = 0;
  std::int64_t at_destination = 0;
};

BothSides sizes_of(const Plan& plan, const Strands& strands) {
  BothSides out;
  for (std::size_t s = 0; s < strands.size(); ++s) {
    const Strand strand = strands[s];
    const PlanTensor& tensor = at(plan.tensors, strand.tensor);
    const std::int64_t elements = (strand.end_bytes - strand.begin_bytes) / tensor.wire_bytes;
    out.at_source += elements * size_bytes(at(plan.src->tensors(), tensor.src).dtype);
    out.at_destination += elements * size_bytes(at(plan.dst->tensors(), tensor.dst).dtype);
  }
  return out;
}

/// By rank: the elements it holds at the source and those it wants at the destination, each in its own dtype: what it
/// must have in memory at once, since sources stay until the run is over. Padding is in no bundle, so it is not
/// counted.
std::vector<std::int64_t> tensor_bytes(const Plan& plan) {
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(plan.num_ranks));
  std::vector<std::optional<BothSides>> of_pattern(plan.patterns.size());  // bundles composed alike are of one size
  for (const Bundle& bundle : plan.bundles) {
    std::optional<BothSides>& sides = at(of_pattern, bundle.pattern);
    if (!sides.has_value()) sides = sizes_of(plan, plan.strands(bundle));
    for (const std::int32_t rank : plan.sets.ranks(bundle.sources)) at(bytes, rank) += sides->at_source;
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) at(bytes, rank) += sides->at_destination;
  }
  return bytes;
}

/// By rank: what it needs and does not hold.
std::vector<std::int64_t> needed_bytes(const Plan& plan) {
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(plan.num_ranks));
  for (const Bundle& bundle : plan.bundles) {
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (!plan.sets.contains(bundle.sources, rank)) at(bytes, rank) += bundle.size_bytes;
    }
  }
  return bytes;
}

/// Some rank sends as much as this in every plan, also in those in which receivers and other ranks pass bytes on. A
/// byte that somebody lacks is sent by one of its holders at least once: so water-filling over the holders, all alike,
/// certifies what the busiest of them sends. And as much as all need is sent by all ranks together.
std::int64_t least_sent_bytes(const Plan& plan, const std::vector<std::int64_t>& needed) {
  std::map<std::int32_t, std::int64_t> bytes_of_holders;  // by source set
  for (const Bundle& bundle : plan.bundles) {
    const std::vector<std::int32_t>& wanted = plan.sets.ranks(bundle.destinations);
    const bool is_sent = std::any_of(wanted.begin(), wanted.end(),
                                     [&](std::int32_t rank) { return !plan.sets.contains(bundle.sources, rank); });
    if (is_sent) bytes_of_holders[bundle.sources] += bundle.size_bytes;
  }
  std::vector<Demand> demands;
  for (const auto& [holders, bytes] : bytes_of_holders) demands.push_back({bytes, plan.sets.ranks(holders)});
  const std::int64_t of_holders =
      water_fill(demands, std::vector<std::int64_t>(static_cast<std::size_t>(plan.num_ranks), 1)).bound;
  const std::int64_t all = std::accumulate(needed.begin(), needed.end(), std::int64_t{0});
  const std::int64_t of_all = plan.num_ranks == 0 ? 0 : (all + plan.num_ranks - 1) / plan.num_ranks;
  return std::max(of_holders, of_all);
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

/// Staging of a rank: as many slots as it can use in each direction, each as large as its largest window. An upper
/// bound, since a window that is contiguous in memory needs none.
PlanStats count_plan(const Plan& plan) {
  PlanStats stats;
  std::vector<RankCount> ranks(static_cast<std::size_t>(plan.num_ranks));
  for (const Bundle& bundle : plan.bundles) {
    bool is_remote = false;
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (plan.sets.contains(bundle.sources, rank)) {
        stats.bytes_local += bundle.size_bytes;
      } else {
        is_remote = true;
      }
    }
    if (!is_remote) continue;
    for (const std::int32_t rank : plan.sets.ranks(bundle.sources)) at(ranks, rank).can_send = true;
  }
  count_messages(plan, &ranks, &stats);
  const std::vector<std::int64_t> tensors = tensor_bytes(plan);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const RankCount& rank = ranks[r];
    if (rank.can_send || rank.sent_bytes > 0) add_rank(rank.sent_bytes, &stats.senders);
    if (rank.received_bytes > 0) add_rank(rank.received_bytes, &stats.receivers);
    const std::int64_t slots = std::min<std::int64_t>(plan.num_slots, rank.num_sends) +
                               std::min<std::int64_t>(plan.num_slots, rank.num_receives);
    stats.staging_bytes = std::max(stats.staging_bytes, slots * rank.largest_bytes);
    stats.peak_memory_bytes = std::max(stats.peak_memory_bytes, tensors[r] + slots * rank.largest_bytes);
  }
  // Of all hops: what is passed on crosses ranks again.
  stats.bytes_crossed = stats.receivers.total_bytes;
  const std::vector<std::int64_t> needed = needed_bytes(plan);
  stats.senders.bound_bytes = least_sent_bytes(plan, needed);
  // What a rank needs and does not hold comes to it in every plan; what it receives to pass it on does not.
  if (!needed.empty()) stats.receivers.bound_bytes = *std::max_element(needed.begin(), needed.end());
  return stats;
}

/// Keys of the first list are always there; the others only of plans that were made anew, have a machine, or were
/// simulated.
std::string report_json(const PlanReport& given) {
  const Plan& plan = given.plan;
  const PlanStats& stats = given.stats;
  nlohmann::json sizes = nlohmann::json::array();
  for (std::size_t i = 0; i < stats.messages_up_to.size(); ++i) {
    if (stats.messages_up_to[i] == 0) continue;
    sizes.push_back({{"up_to_bytes", std::int64_t{1} << i}, {"count", stats.messages_up_to[i]}});
  }
  nlohmann::json report = {
      {"hash", fmt::format("{:016x}", plan.hash)},
      {"ranks", plan.num_ranks},
      {"tensors", plan.tensors.size()},
      {"unmatched", {{"source", plan.only_at_source}, {"destination", plan.only_at_destination}}},
      {"groups", plan.groups.size()},
      {"atoms", plan.num_atoms()},
      {"bundles", plan.bundles.size()},
      {"routes", plan.routes.size()},
      {"hops", plan.num_hops()},
      {"messages", stats.num_messages},
      {"message_sizes", sizes},
      {"bytes_crossed", stats.bytes_crossed},
      {"bytes_local", stats.bytes_local},
      {"staging_bytes", stats.staging_bytes},
      {"peak_memory_bytes", stats.peak_memory_bytes},
      {"staging_budget_bytes", plan.options.staging_bytes},
      {"window_bytes", plan.window_bytes},
      {"senders", side_json(stats.senders)},
      {"receivers", side_json(stats.receivers)},
      {"bound_bytes", std::max(stats.senders.bound_bytes, stats.receivers.bound_bytes)},
      {"planning_seconds", given.planning_seconds},
  };
  if (!plan.conversions.empty()) report["quantised"] = quantised_json(plan);
  if (given.changes != nullptr) {
    report["replanned"] = {{"bundles", given.changes->bundles},
                           {"bundles_changed", given.changes->bundles_changed},
                           {"bytes", given.changes->bytes},
                           {"bytes_changed", given.changes->bytes_changed},
                           {"routed_bytes", given.changes->routed_bytes},
                           {"rerouted_bytes", given.changes->rerouted_bytes}};
    if (given.changes->tensors > 0) {
      report["replanned"]["tensors"] = given.changes->tensors;
      report["replanned"]["tensors_changed"] = given.changes->tensors_changed;
    }
  }
  if (given.estimate != nullptr) {
    report["estimating_seconds"] = given.estimating_seconds;
    report.update(time_json(plan, *given.estimate));
    if (given.simulation != nullptr) report["simulated_seconds"] = given.simulation->seconds;
  }
  return report.dump();
}

}  // namespace reshard
