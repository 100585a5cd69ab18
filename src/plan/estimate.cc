// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The time of a plan as the sum of two things: what its busiest resource takes for all that passes it, as if it never
// stood idle; and how long the slowest route takes to fill. The fluid simulation (report/simulate_plan) is the second
// opinion: it also sees flows that are slowed down elsewhere on their way and leave a resource idle.
#include "src/plan/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

/// How the bytes of a cargo divide over the places of its receivers' order of groups. One place for all where nothing
/// limits open groups.
class Places {
 public:
  explicit Places(const Plan& plan) : plan_(plan), bytes_(1) {
    const std::int64_t num_groups = std::ssize(plan.groups);
    if (plan.options.open_groups == 0 || plan.options.open_groups >= num_groups) return;
    bytes_.resize(static_cast<std::size_t>(num_groups));
    splitter_.emplace(plan);
  }

  std::size_t size() const { return bytes_.size(); }

  /// By place. Valid until the next call.
  const std::vector<std::int64_t>& of(const Cargo& cargo) {
    if (!splitter_.has_value()) {
      bytes_[0] = cargo.size_bytes;
      return bytes_;
    }
    std::fill(bytes_.begin(), bytes_.end(), 0);
    parts_.clear();
    for (const Range& range : cargo.ranges) splitter_->split(range, &parts_);
    for (const GroupBytes& part : parts_) at(bytes_, plan_.position_of(part.group, cargo.first_group)) += part.bytes;
    return bytes_;
  }

 private:
  const Plan& plan_;
  std::optional<GroupSplitter> splitter_;
  std::vector<GroupBytes> parts_;
  std::vector<std::int64_t> bytes_;
};

/// Bytes that pass each resource, by place of the order.
class PlaceLoads {
 public:
  PlaceLoads(const Machine& machine, std::size_t num_places)
      : machine_(machine), num_places_(num_places), bytes_(static_cast<std::size_t>(machine.num_resources())) {}

  std::int64_t& at_place(std::int32_t resource, std::size_t place) {
    std::vector<std::int64_t>& mine = at(bytes_, resource);
    if (mine.empty()) mine.resize(num_places_);
    return mine[place];
  }
  std::vector<std::int64_t> sums() const {
    std::vector<std::int64_t> out;
    for (const auto& mine : bytes_) out.push_back(std::accumulate(mine.begin(), mine.end(), std::int64_t{0}));
    return out;
  }
  double seconds(std::int64_t open_groups) const;

 private:
  const Machine& machine_;
  std::size_t num_places_;
  std::vector<std::vector<std::int64_t>> bytes_;  // by resource, and place; empty where nothing passes
};

/// Blocks of places, one after the other, as if nobody began a block before all had ended the last one. Blocks differ
/// in what binds: of a pipeline each has other senders, and the sum of their times is then far above the busiest
/// resource of the whole. A receiver that may open k groups may as well open fewer, so the blocks are those of at most
/// k places that take least time in all: where a stage ends, a block may end early. So a plan never takes longer when
/// receivers open more. Limits slide, and a run may do better still.
double PlaceLoads::seconds(std::int64_t open_groups) const {
  const std::size_t widest = num_places_ == 1 ? 1 : std::min(num_places_, static_cast<std::size_t>(open_groups));
  std::vector<double> busiest(num_places_ * widest);  // of the block that begins at a place, by its width less one
  for (std::int32_t r = 0; r < machine_.num_resources(); ++r) {
    const std::int64_t rate = machine_.link_of(r).bytes_per_s();
    const std::vector<std::int64_t>& mine = at(bytes_, r);
    if (rate == 0 || mine.empty()) continue;
    for (std::size_t first = 0; first < num_places_; ++first) {
      std::int64_t bytes = 0;
      for (std::size_t i = 0; i < std::min(widest, num_places_ - first); ++i) {
        bytes += mine[first + i];
        double& most = busiest[first * widest + i];
        most = std::max(most, static_cast<double>(bytes) / static_cast<double>(rate));
      }
    }
  }
  std::vector<double> least(num_places_ + 1);  // that all places before this one can take
  for (std::size_t end = 1; end <= num_places_; ++end) {
    least[end] = std::numeric_limits<double>::infinity();
    for (std::size_t width = 1; width <= std::min(widest, end); ++width) {
      const std::size_t first = end - width;
      least[end] = std::min(least[end], least[first] + busiest[first * widest + width - 1]);
    }
  }
  return least.back();
}

PlaceLoads place_loads(const Plan& plan, Places* places) {
  PlaceLoads loads(*plan.options.machine, places->size());
  for_each_cargo(plan, [&](const Cargo& cargo, const std::vector<std::int32_t>& uses) {
    const std::vector<std::int64_t>& bytes = places->of(cargo);
    for (std::size_t place = 0; place < bytes.size(); ++place) {
      if (bytes[place] == 0) continue;
      for (const std::int32_t resource : uses) loads.at_place(resource, place) += bytes[place];
    }
  });
  return loads;
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
bool apply_multicast(const Plan& plan, Places* places, PlaceLoads* loads) {
  const Machine& machine = *plan.options.machine;
  bool is_any = false;
  for (const Route& route : plan.routes) {
    for (const auto& [rank, num_hops] : stars_of(plan, route)) {
      is_any = true;
      const std::vector<std::int64_t>& bytes = places->of({plan.ranges_of(route), route.size_bytes, route.first_group});
      const Machine::Gpu& gpu = at(machine.gpus, rank);
      for (std::size_t place = 0; place < bytes.size(); ++place) {
        if (gpu.link.is_limited()) {
          const Wide once = Wide{bytes[place]} * 1000 / gpu.multicast_permille;
          loads->at_place(machine.resource(ResourceKind::kLinkOut, rank), place) +=
              static_cast<std::int64_t>(once) - num_hops * bytes[place];
        }
        if (gpu.memory.is_limited()) {
          loads->at_place(machine.resource(ResourceKind::kMemory, rank), place) -= (num_hops - 1) * bytes[place];
        }
      }
    }
  }
  return is_any;
}

}  // namespace

double fill_seconds_of(const Route& route, std::int64_t window_bytes, FillingCounter* counter) {
  std::int64_t last = 0;
  for (const Filling& filling : counter->count(route, std::min(window_bytes, route.size_bytes))) {
    last = std::max(last, filling.total());
  }
  return static_cast<double>(last) / static_cast<double>(kPicosecondsPerSecond);
}

namespace {

/// By itself, so that the counter's tables, which are large where ranks are many, are gone before the bounds are found.
double longest_fill_seconds(const Plan& plan) {
  FillingCounter counter(plan);
  double longest = 0;
  for (const Route& route : plan.routes) {
    longest = std::max(longest, fill_seconds_of(route, plan.window_bytes, &counter));
  }
  return longest;
}

}  // namespace

Result<Estimate> estimate(const Plan& plan) {
  const Machine& machine = *plan.options.machine;
  Estimate out;
  Places places(plan);
  PlaceLoads loads = place_loads(plan, &places);
  out.loads = loads.sums();
  out.seconds = loads.seconds(plan.options.open_groups);
  if (const Busiest most = busiest(machine, out.loads); most.resource >= 0) {
    out.resource = machine.describe(most.resource);
  }
  out.fill_seconds = longest_fill_seconds(plan);
  out.seconds += out.fill_seconds;
  if (apply_multicast(plan, &places, &loads)) {
    const double seconds = loads.seconds(plan.options.open_groups) + out.fill_seconds;
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
