// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The fluid simulation: bytes flow like water, all flows at their max-min fair rates at every moment, until the next
// one begins or ends. Three parts meet here: gates.h says which flows may start, max_min.h how fast those under way
// are, and this file moves the time from event to event.
#include "topology/fluid.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>

#include "src/base/at.h"
#include "topology/gates.h"
#include "topology/max_min.h"

namespace reshard {
namespace {

constexpr double kSecondsPerNs = 1e-9;
// Events nearer to each other than this fraction of the time are one: what is between them is rounding.
constexpr double kSameTime = 1e-12;

/// No schedule is quicker than its busiest resource at full speed.
double bound_s(const FluidTraffic& traffic) {
  std::vector<double> load(traffic.bytes_per_s.size());
  for (std::size_t flow = 0; flow < traffic.flows.size(); ++flow) {
    for (std::int64_t u = traffic.first_use[flow]; u < traffic.first_use[flow + 1]; ++u) {
      const FluidUse& use = at(traffic.uses, u);
      at(load, use.resource) += static_cast<double>(traffic.flows[flow].bytes) * use.times;
    }
  }
  double bound = 0;
  for (std::size_t r = 0; r < load.size(); ++r) {
    if (traffic.bytes_per_s[r] > 0) bound = std::max(bound, load[r] / static_cast<double>(traffic.bytes_per_s[r]));
  }
  return bound;
}

/// What each class of resources carried, step by step.
class Timeline {
 public:
  explicit Timeline(const FluidOptions& options) : options_(options) {
    if (options.num_buckets == 0) return;
    for (const std::int32_t id : options.class_of)
      num_classes_ = std::max(num_classes_, static_cast<std::size_t>(id) + 1);
  }

  void begin_step(double begin_s, double end_s) {
    steps_.push_back({begin_s, end_s});
    bytes_.resize(bytes_.size() + num_classes_);
  }

  void carry(std::int32_t resource, double bytes) {
    const auto id = static_cast<std::size_t>(at(options_.class_of, resource));
    bytes_[bytes_.size() - num_classes_ + id] += bytes;
  }

  bool is_wanted() const { return num_classes_ > 0; }

  std::vector<std::vector<double>> buckets(double makespan_s) const {
    const auto count = static_cast<std::size_t>(options_.num_buckets);
    std::vector<std::vector<double>> out(num_classes_, std::vector<double>(count));
    const double width = makespan_s / static_cast<double>(count);
    if (width <= 0) return out;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      // The last step may reach beyond the last completion, but nothing moves there.
      const double begin = steps_[i].begin_s;
      const double end = std::min(steps_[i].end_s, makespan_s);
      if (end <= begin) continue;
      for (auto b = static_cast<std::size_t>(begin / width); b < count; ++b) {
        const double from = std::max(begin, static_cast<double>(b) * width);
        const double until = std::min(end, static_cast<double>(b + 1) * width);
        if (from >= end) break;
        const double part = std::max(0.0, until - from) / (end - begin) / width;
        for (std::size_t c = 0; c < num_classes_; ++c) out[c][b] += bytes_[i * num_classes_ + c] * part;
      }
    }
    return out;
  }

 private:
  struct Step {
    double begin_s;
    double end_s;
  };
  const FluidOptions& options_;
  std::size_t num_classes_ = 0;
  std::vector<Step> steps_;
  std::vector<double> bytes_;  // [step][class]
};

class Simulation {
 public:
  Simulation(const FluidTraffic& traffic, const FluidOptions& options)
      : traffic_(traffic), gates_(traffic), max_min_(traffic), timeline_(options) {
    for (const FluidFlow& flow : traffic.flows) remaining_.push_back(static_cast<double>(flow.bytes));
    result_.start_s.resize(traffic.flows.size());
    result_.finish_s.resize(traffic.flows.size());
    result_.bound_s = bound_s(traffic);
    // A wave of open groups lasts about bound / waves, so that the window is a fraction of that, not of the whole.
    min_step_s_ = options.batch * result_.bound_s / static_cast<double>(gates_.num_waves());
  }

  Result<FluidResult> run() {
    std::vector<std::int32_t> started;
    gates_.open_first(&started);
    for (const std::int32_t flow : started) start(flow, 0);
    while (num_finished_ < traffic_.flows.size()) {
      // Nothing moves: jump to the next first byte. If none is to come either, the gates wait for each other.
      if (max_min_.active().empty()) {
        if (arrivals_.empty()) {
          return invalid_argument(fmt::format("{} of {} flows wait for each other at their receivers",
                                              traffic_.flows.size() - num_finished_, traffic_.flows.size()));
        }
        now_s_ = std::max(now_s_, arrivals_.top().first);
      }
      admit();
      if (!max_min_.active().empty()) step();
    }
    // Rounding may have moved it below.
    result_.makespan_s = std::max(result_.makespan_s, result_.bound_s);
    result_.timeline = timeline_.buckets(result_.makespan_s);
    return std::move(result_);
  }

 private:
  using Arrival = std::pair<double, std::int32_t>;  // time of its first byte, flow

  void start(std::int32_t flow, double time_s) {
    at(result_.start_s, flow) = time_s;
    arrivals_.push({time_s + static_cast<double>(at(traffic_.flows, flow).latency_ns) * kSecondsPerNs, flow});
  }

  void finish(std::int32_t flow, double time_s) {
    at(result_.finish_s, flow) = time_s;
    result_.makespan_s = std::max(result_.makespan_s, time_s);
    ++num_finished_;
    started_.clear();
    gates_.finish(flow, &started_);
    for (const std::int32_t next : started_) start(next, time_s);
  }

  bool is_limited(std::int32_t flow) const {
    for (std::int64_t u = at(traffic_.first_use, flow); u < at(traffic_.first_use, flow + 1); ++u) {
      if (at(traffic_.bytes_per_s, at(traffic_.uses, u).resource) > 0) return true;
    }
    return false;
  }

  void admit() {
    while (!arrivals_.empty() && arrivals_.top().first <= now_s_ * (1 + kSameTime)) {
      const auto [time_s, flow] = arrivals_.top();
      arrivals_.pop();
      if (at(traffic_.flows, flow).bytes > 0 && is_limited(flow)) {
        max_min_.add(flow);
      } else {
        finish(flow, time_s);
      }
    }
  }

  /// To the next event, or to the end of the window in which events are batched.
  void step() {
    max_min_.fill();
    double length_s = arrivals_.empty() ? std::numeric_limits<double>::max() : arrivals_.top().first - now_s_;
    for (const std::int32_t flow : max_min_.active()) {
      length_s = std::min(length_s, at(remaining_, flow) / max_min_.rate(flow));
    }
    length_s = std::max(length_s, min_step_s_);
    // What would end within the window ends at its own time, computed from the rate of now; what it frees stays unused
    // until end_s. Hence rates are never too high, and makespan_s never below bound_s.
    const double end_s = now_s_ + length_s;
    if (timeline_.is_wanted()) {
      timeline_.begin_step(now_s_, end_s);
      for (const std::int32_t resource : max_min_.used_resources()) {
        timeline_.carry(resource, max_min_.used_bytes_per_s(resource) * length_s);
      }
    }
    finished_.clear();
    for (const std::int32_t flow : max_min_.active()) {
      const double left_s = at(remaining_, flow) / max_min_.rate(flow);
      if (left_s <= length_s + end_s * kSameTime) {
        finished_.push_back({now_s_ + left_s, flow});
      } else {
        at(remaining_, flow) -= max_min_.rate(flow) * length_s;
      }
    }
    std::sort(finished_.begin(), finished_.end());  // what the last one opens starts when the last one ends
    for (const auto& [time_s, flow] : finished_) {
      max_min_.remove(flow);
      if (timeline_.is_wanted()) uncarry(flow, end_s - time_s);
      finish(flow, time_s);
    }
    now_s_ = end_s;
  }

  /// It has not moved anything in the last `time_s` of the step.
  void uncarry(std::int32_t flow, double time_s) {
    for (std::int64_t u = at(traffic_.first_use, flow); u < at(traffic_.first_use, flow + 1); ++u) {
      const FluidUse& use = at(traffic_.uses, u);
      if (at(traffic_.bytes_per_s, use.resource) == 0) continue;
      timeline_.carry(use.resource, -use.times * max_min_.rate(flow) * time_s);
    }
  }

  const FluidTraffic& traffic_;
  Gates gates_;
  MaxMin max_min_;
  Timeline timeline_;
  FluidResult result_;
  double min_step_s_ = 0;
  double now_s_ = 0;
  std::size_t num_finished_ = 0;
  std::vector<double> remaining_;  // bytes per flow
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals_;
  std::vector<Arrival> finished_;
  std::vector<std::int32_t> started_;
};

}  // namespace

void FluidTraffic::add(const FluidFlow& flow, const std::vector<FluidUse>& flow_uses,
                       const std::vector<Membership>& flow_memberships) {
  flows.push_back(flow);
  uses.insert(uses.end(), flow_uses.begin(), flow_uses.end());
  first_use.push_back(static_cast<std::int64_t>(uses.size()));
  memberships.insert(memberships.end(), flow_memberships.begin(), flow_memberships.end());
  first_membership.push_back(static_cast<std::int64_t>(memberships.size()));
}

Result<FluidResult> simulate(const FluidTraffic& traffic, const FluidOptions& options) {
  return Simulation(traffic, options).run();
}

}  // namespace reshard
