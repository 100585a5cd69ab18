// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/max_min.h"

#include <algorithm>
#include <cassert>
#include <span>

#include "src/base/at.h"

namespace reshard {
namespace {

// A rate that is not found yet.
constexpr double kGrowing = -1;
// Levels nearer to each other than this are one: what is between them is rounding.
constexpr double kSameLevel = 1 + 1e-12;

std::span<const FluidUse> uses_of(const FluidTraffic& traffic, std::int32_t flow) {
  const std::int64_t begin = at(traffic.first_use, flow);
  return {traffic.uses.data() + begin, static_cast<std::size_t>(at(traffic.first_use, flow + 1) - begin)};
}

}  // namespace

MaxMin::MaxMin(const FluidTraffic& traffic)
    : traffic_(traffic),
      capacity_(traffic.bytes_per_s.begin(), traffic.bytes_per_s.end()),
      rate_(traffic.flows.size()),
      place_(traffic.flows.size(), -1),
      flows_of_(capacity_.size()),
      state_(capacity_.size()) {}

void MaxMin::add(std::int32_t flow) {
  assert(at(place_, flow) < 0);
  at(place_, flow) = static_cast<std::int32_t>(active_.size());
  active_.push_back(flow);
  // A capacity of 0 is none: such resources limit nobody, and are left out here and in all that follows.
  for (const FluidUse& use : uses_of(traffic_, flow)) {
    if (at(capacity_, use.resource) > 0) at(flows_of_, use.resource).push_back(flow);
  }
}

void MaxMin::remove(std::int32_t flow) {
  // The last one takes its place. flows_of_ keeps the flow; saturate() drops it when it next walks there.
  const std::int32_t hole = at(place_, flow);
  at(active_, hole) = active_.back();
  at(place_, active_.back()) = hole;
  active_.pop_back();
  at(place_, flow) = -1;
}

double MaxMin::used_bytes_per_s(std::int32_t resource) const {
  return at(capacity_, resource) - std::max(0.0, at(state_, resource).free_bytes_per_s);
}

/// Fills state_ and used_resources_ from the active flows. All of them grow: a flow of weight w that passes a resource
/// t times takes t * w of it for each unit of the common level, so that the resource is full at free / weight.
void MaxMin::collect() {
  for (const std::int32_t resource : used_resources_) at(state_, resource) = {};
  used_resources_.clear();
  for (const std::int32_t flow : active_) {
    at(rate_, flow) = kGrowing;
    const double weight = at(traffic_.flows, flow).weight;
    for (const FluidUse& use : uses_of(traffic_, flow)) {
      const double capacity = at(capacity_, use.resource);
      if (capacity == 0) continue;
      State& state = at(state_, use.resource);
      if (state.num_growing == 0) {
        used_resources_.push_back(use.resource);
        state.free_bytes_per_s = capacity;
      }
      ++state.num_growing;
      state.weight += use.times * weight;
    }
  }
}

void MaxMin::fill() {
  collect();
  heap_.clear();
  for (const std::int32_t resource : used_resources_) {
    const State& state = at(state_, resource);
    heap_.push_back({state.free_bytes_per_s / state.weight, resource});
  }
  std::make_heap(heap_.begin(), heap_.end());
  num_growing_flows_ = active_.size();
  // Invariant: the level at the front is at most the true level of every resource with growing flows, for levels only
  // rise while others saturate. So a front that has not risen is the next to saturate; one that has is put back.
  while (num_growing_flows_ > 0) {
    Candidate& next = heap_.front();
    const State& state = at(state_, next.resource);
    if (state.num_growing > 0) {
      // Never less than what it was: what is free next to nothing may be nothing but rounding.
      const double level = std::max(next.level, state.free_bytes_per_s / state.weight);
      if (level > next.level * kSameLevel) {
        next.level = level;
        sink_front();
        continue;
      }
      saturate(next.resource, level);
    }
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
  }
}

/// Restores the heap after its front has risen; most rise a little, so this is quicker than out and in again.
void MaxMin::sink_front() {
  const Candidate risen = heap_.front();
  std::size_t hole = 0;
  for (;;) {
    std::size_t child = 2 * hole + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child] < heap_[child + 1]) ++child;
    if (!(risen < heap_[child])) break;
    heap_[hole] = heap_[child];
    hole = child;
  }
  heap_[hole] = risen;
}

/// The flows through a resource that is full stop growing: each keeps level * weight for good. That much is taken from
/// the other resources that they pass, where the flows that are left now share what is free.
void MaxMin::saturate(std::int32_t resource, double level) {
  std::vector<std::int32_t>& flows = at(flows_of_, resource);
  std::size_t kept = 0;
  for (const std::int32_t flow : flows) {
    if (at(place_, flow) < 0) continue;
    flows[kept++] = flow;
    if (at(rate_, flow) != kGrowing) continue;
    const double weight = at(traffic_.flows, flow).weight;
    at(rate_, flow) = level * weight;
    --num_growing_flows_;
    for (const FluidUse& use : uses_of(traffic_, flow)) {
      State& state = at(state_, use.resource);
      if (state.num_growing == 0) continue;  // it has no limit
      --state.num_growing;
      state.weight -= use.times * weight;
      state.free_bytes_per_s -= use.times * level * weight;
    }
  }
  flows.resize(kept);
}

}  // namespace reshard
