// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <string>
#include <vector>

#include "src/plan/estimate.h"
#include "src/plan/plan.h"
#include "src/plan/replan.h"
#include "src/plan/report/simulate_plan.h"

namespace reshard {

/// Bytes and messages of a plan, counted from its flows. Bytes are of the wire and of one run, but for
/// peak_memory_bytes, which is of the tensors as they lie in memory.
struct PlanStats {
  static constexpr int kSizeClasses = 32;

  /// One direction: over the ranks that could take part.
  struct Side {
    std::int64_t max_bytes = 0;
    std::int64_t total_bytes = 0;
    std::int64_t num_ranks = 0;    ///< senders: that hold what others need or pass it on; receivers: that receive
    std::int64_t num_used = 0;     ///< of them: that send or receive a byte in this plan
    std::int64_t bound_bytes = 0;  ///< no plan keeps its busiest rank below this, relays included
    double mean_bytes() const {
      return num_ranks == 0 ? 0 : static_cast<double>(total_bytes) / static_cast<double>(num_ranks);
    }
  };
  Side senders;
  Side receivers;
  std::int64_t bytes_crossed = 0;  ///< from rank to rank, over all hops
  std::int64_t bytes_local = 0;    ///< that ranks need and hold themselves
  std::int64_t num_messages = 0;
  std::array<std::int64_t, kSizeClasses> messages_up_to{};  ///< [i]: of more than 2^(i-1) and at most 2^i bytes
  std::int64_t peak_memory_bytes = 0;  ///< of the rank that needs most: its elements on both sides and its staging
  std::int64_t staging_bytes = 0;      ///< of the rank that needs most, were every window staged
};

PlanStats count_plan(const Plan& plan);

/// What a report is made of. What was not asked for is null, and its keys are missing from the report.
struct PlanReport {
  const Plan& plan;
  const PlanStats& stats;
  const Estimate* estimate = nullptr;      ///< of a plan with a machine
  const Changes* changes = nullptr;        ///< of a plan that was made from an older one
  const Simulation* simulation = nullptr;  ///< once it was made
  double planning_seconds = 0;
  double estimating_seconds = 0;
};

/// The report as JSON text; its keys are documented in perf/README.md and stay.
std::string report_json(const PlanReport& report);

}  // namespace reshard
