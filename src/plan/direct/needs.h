// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What has to cross ranks where no machine is known: each rank that wants a bundle and does not hold it gets a copy of
// its own. Nothing is said about from whom.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/plan.h"

namespace reshard::direct {

/// What an older plan's routes, which stay, do already. Empty for a plan that is made from nothing.
struct Kept {
  std::vector<std::vector<std::int32_t>> served;  ///< by bundle: ranks that have all of it from them, ascending
  std::vector<std::int64_t> out_bytes;            ///< by rank: what they have it send

  bool serves(std::int32_t bundle, std::int32_t rank) const;
};

/// Each of these ranks lacks the whole bundle.
struct Need {
  std::int32_t bundle = -1;
  std::int32_t receivers = 0;  ///< id in Needs::receivers
};

struct Needs {
  std::vector<Need> all;  ///< by bundle, each bundle at most once
  RankSets receivers;
};

Needs needs_of(const Plan& plan, const Kept& kept);

}  // namespace reshard::direct
