// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"
#include "topology/fluid.h"

namespace reshard {

/// A route, or one group of it, as it moved in a simulation.
struct SimulatedFlow {
  std::int64_t route = 0;
  std::int32_t position = 0;  ///< of the group in the receivers' order; 0 where open groups are not limited
  std::int64_t bytes = 0;
  double start_s = 0;
  double finish_s = 0;
};

struct Simulation {
  double seconds = 0;
  std::vector<SimulatedFlow> flows;
  double bucket_seconds = 0;
  /// [resource kind][bucket]: mean rate over the capacity of those resources of the kind that the plan uses, 0 .. 1
  std::vector<std::vector<double>> utilisation;
};

/// Plays the plan on its machine as fluid: every route is one flow that passes all its hops at one rate, since windows
/// are forwarded as they come. The schedule lets the routes of a sender progress in proportion to their sizes, so flows
/// share what they meet on by their sizes; a flow begins when the receivers' limit of open groups allows, domain by
/// domain. @pre the plan has a machine
Result<Simulation> simulate_plan(const Plan& plan, std::int32_t num_buckets);

}  // namespace reshard
