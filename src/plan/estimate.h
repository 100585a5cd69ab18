// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <optional>

#include "src/plan/bounds/bounds.h"
#include "src/plan/filling.h"
#include "src/plan/loads.h"

namespace reshard {

/// What a plan will take on its machine, and the limits beside it.
struct Estimate {
  double seconds = 0;       ///< the busiest resource's time, and fill_seconds
  double fill_seconds = 0;  ///< how long the slowest route takes to fill (filling.h)
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

/// Until the last receiver of a route has a window of so many bytes (filling.h). `counter` is of the route's plan.
double fill_seconds_of(const Route& route, std::int64_t window_bytes, FillingCounter* counter);

}  // namespace reshard
