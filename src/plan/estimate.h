// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <optional>

#include "src/plan/bounds/bounds.h"
#include "src/plan/loads.h"
#include "src/plan/paths.h"

namespace reshard {

/// What a plan will take on its machine, and the limits beside it.
struct Estimate {
  double seconds = 0;       ///< the busiest resource's time, and fill_seconds
  double fill_seconds = 0;  ///< until the last rank of the slowest route has its first window; latencies
  std::string resource;     ///< the busiest
  std::vector<Bound> bounds;
  Bound bound;                      ///< the largest
  std::vector<std::int64_t> loads;  ///< bytes by resource
  /// What `seconds` would be if the switch of a domain made the copies where a route has several hops from one rank
  /// within it: the rank then sends once. Nothing runs so yet. Empty where it would gain nothing.
  std::optional<double> multicast_seconds;
};

/// The static estimate: every resource is shared without loss. Where receivers limit open groups to k, blocks of at
/// most k groups at a time, those that take least. It is a time that the plan can be expected to reach, not one that it
/// cannot beat: that is `bound`. RESHARD_ERR_INTERNAL when it is below a bound, for then one of the two is wrong. @pre
/// the plan has a machine
Result<Estimate> estimate(const Plan& plan);

/// Until a window has come along the whole route, less the time it takes on its first hop.
double fill_seconds_of(const Plan& plan, const Paths& paths, const Route& route);

}  // namespace reshard
