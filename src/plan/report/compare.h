// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Another way to do the same work, at its best: no latency, no loss, every link shared perfectly, no order of groups.
struct OtherWay {
  std::string name;
  std::int64_t bytes_network = 0;  ///< that enter domains over the network
  double seconds = 0;
  std::string resource;  ///< that takes this long
};

/// What frameworks do today, on the plan's machine:
///  gather everything, then slice: every destination rank receives the whole model by one pipelined broadcast;
///  broadcast per pipeline stage: the same, one stage after the other, each tensor from the first of its holders;
///  unicast to every destination: each destination rank gets its own copy of what it needs, destinations taking the
///  holders in turn, none passing anything on but neighbours that lend their ports where rails are isolated.
/// @pre the plan has a machine
std::vector<OtherWay> other_ways(const Plan& plan);

}  // namespace reshard
