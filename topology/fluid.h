// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/status.h"

namespace reshard {

struct FluidFlow {
  std::int64_t bytes = 0;
  double weight = 1;            ///< its share where it competes, > 0
  std::int64_t latency_ns = 0;  ///< from its start to its first byte
};

/// A flow passes all its resources at one rate; a pipelined multicast tree is one flow that uses some several times.
struct FluidUse {
  std::int32_t resource = 0;
  std::int32_t times = 1;
};

/// A flow's place in the order of one receiver.
struct Membership {
  std::int32_t receiver = 0;
  std::int32_t position = 0;
};

struct FluidTraffic {
  std::vector<std::int64_t> bytes_per_s;  ///< per resource; 0: it limits nothing
  std::vector<FluidFlow> flows;
  std::vector<FluidUse> uses;                     ///< of one flow after another, each resource at most once per flow
  std::vector<std::int64_t> first_use{0};         ///< per flow, and one more
  std::vector<Membership> memberships;            ///< of one flow after another
  std::vector<std::int64_t> first_membership{0};  ///< per flow, and one more
  /// k > 0: a flow starts when, at each of its receivers, all flows at positions <= its own - k have finished.
  std::int32_t open_limit = 0;

  void add(const FluidFlow& flow, const std::vector<FluidUse>& flow_uses,
           const std::vector<Membership>& flow_memberships = {});
};

struct FluidOptions {
  /// Completions within this fraction of the lower bound are followed by one redistribution of rates at its end; 0:
  /// each by its own. Where an open limit makes waves of flows, within this fraction of a wave.
  double batch = 0.01;
  std::int32_t num_buckets = 0;        ///< of the timeline; 0: none
  std::vector<std::int32_t> class_of;  ///< per resource, for the timeline
};

struct FluidResult {
  double makespan_s = 0;
  double bound_s = 0;            ///< max over resources of load / capacity
  std::vector<double> start_s;   ///< per flow: when its gates let it go
  std::vector<double> finish_s;  ///< per flow
  /// [class][bucket of makespan_s / num_buckets]: mean bytes/s over all resources of the class that have a limit.
  std::vector<std::vector<double>> timeline;
};

/// How long the flows take if the network shares every resource max-min fairly at every moment.
///
/// Rates change only when a flow begins or ends, so time goes from event to event. Batching leaves the capacity of what
/// has ended unused until the end of its window: no resource ever carries more than its capacity, so makespan_s is
/// never below bound_s. Fails if gates wait for each other in a circle.
Result<FluidResult> simulate(const FluidTraffic& traffic, const FluidOptions& options);

}  // namespace reshard
