// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/plan.h"

namespace reshard::bounds {

/// Sums that most bounds share: what has to get where, whatever the plan.
struct NeededBytes {
  /// In one pass over bundles. @pre the plan has a machine
  NeededBytes(const Plan& plan, const DomainSets& domains);

  std::vector<std::int64_t> needed;    ///< by rank: what it needs and has not
  std::vector<std::int64_t> copied;    ///< by rank: what it needs and has
  std::vector<std::int64_t> read;      ///< by rank: what only it has, and others need
  std::vector<std::int64_t> entering;  ///< by domain: what is needed there and nobody there has
  std::vector<std::int64_t> leaving;   ///< by domain: what only it holds and others need
};

}  // namespace reshard::bounds
