// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "topology/fluid.h"

namespace reshard {

/// Weighted max-min fair rates of the flows that are active: no flow can have more without taking from one that has no
/// more than it, in proportion to weight.
///
/// Progressive filling: all rates grow in proportion to weight until a resource saturates, whose flows then keep
/// theirs. Resources wait in a heap by the level at which they would saturate; that level only rises while others
/// saturate, so a stale one is corrected when it comes up.
class MaxMin {
 public:
  explicit MaxMin(const FluidTraffic& traffic);

  /// @pre it is not active, and passes a resource with a limit
  void add(std::int32_t flow);
  void remove(std::int32_t flow);
  void fill();

  /// Of the last fill().
  double rate(std::int32_t flow) const { return rate_[static_cast<std::size_t>(flow)]; }
  /// Resources with a limit that active flows pass, and what these took of them, in the last fill().
  const std::vector<std::int32_t>& used_resources() const { return used_resources_; }
  double used_bytes_per_s(std::int32_t resource) const;

  const std::vector<std::int32_t>& active() const { return active_; }

 private:
  struct State {
    double free_bytes_per_s = 0;
    double weight = 0;  ///< of the flows that still grow
    std::int32_t num_growing = 0;
  };
  struct Candidate {
    double level;
    std::int32_t resource;
    // The heap of the standard library has its largest on top.
    bool operator<(const Candidate& other) const {
      return level != other.level ? level > other.level : resource > other.resource;
    }
  };

  void collect();
  void sink_front();
  void saturate(std::int32_t resource, double level);

  const FluidTraffic& traffic_;
  std::vector<double> capacity_;
  std::vector<double> rate_;         // per flow; kGrowing until its level is found
  std::vector<std::int32_t> place_;  // per flow, in active_, or -1
  std::vector<std::int32_t> active_;
  std::vector<std::vector<std::int32_t>> flows_of_;  // per resource; some are no longer active
  std::vector<State> state_;                         // per resource
  std::vector<std::int32_t> used_resources_;
  std::vector<Candidate> heap_;
  std::size_t num_growing_flows_ = 0;
};

}  // namespace reshard
