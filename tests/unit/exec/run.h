// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <string>

#include "tests/unit/exec/world.h"

namespace reshard::testing {

constexpr std::int64_t kTimeoutUs = 60'000'000;  // with a sanitizer beside other tests large runs take 20 s
constexpr std::int64_t kShortUs = 200'000;       // where it must run out

struct RunOptions {
  Scenario scenario;
  std::shared_ptr<const Plan> plan;
  bool src_mappable = true;
  bool dst_mappable = true;
  int num_runs = 2;
  std::uint64_t late_seed = 0;  ///< not 0: with LateCopier; the sources are written and the destinations poisoned late
  bool spoils_groups = false;   ///< overwrites each group as soon as wait_group says that it is complete
};

/// Binds, runs and checks on every rank of a local world. Empty: all is right, on all ranks, in every run, and no run
/// after the first allocated (not counted under sanitizers).
std::string run_world(const RunOptions& options);

/// With StreamDriver, after a run that failed on other ranks (is_unhurt) or on this one, too: that there is no other.
/// Empty: it is so.
std::string try_again_in_vain(Driver* driver, bool is_unhurt);

}  // namespace reshard::testing
