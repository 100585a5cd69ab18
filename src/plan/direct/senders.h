// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/direct/needs.h"

namespace reshard::direct {

/// Bytes of which one rank sends a copy to each of some others.
struct Sending {
  std::int32_t sender = -1;
  std::int32_t receivers = 0;  ///< id in Sendings::receivers
  Range range;
};

/// One rank's sendings to another are one route, with the ranges in the order they have here.
struct Sendings {
  std::vector<Sending> all;
  RankSets receivers;
};

/// Chooses for each copy which holders send it, so that the busiest rank sends as little as possible. The bytes that
/// routes which stay have ranks send are there before anything is chosen.
Sendings choose_senders(const Plan& plan, const Needs& needs, const Kept& kept);

}  // namespace reshard::direct
