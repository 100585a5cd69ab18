// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a live run measures and counts. Times are those of the slowest rank, bytes are sums over all ranks, so that the
// result is the same on every rank and rank 0 can print it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "perf/engine/collective.h"
#include "perf/engine/options.h"

namespace reshard::perf {

/// A transfer that was timed: of the whole job, or of one tensor pattern on its own.
struct Timing {
  std::int64_t bytes_crossed = 0;   ///< between ranks, per run
  std::int64_t bound_bytes = 0;     ///< what the busiest rank cannot avoid receiving
  std::vector<double> run_seconds;  ///< per run, the slowest rank's
};

struct PatternResult {
  std::string name;
  std::int64_t num_tensors = 0;
  Timing timing;  ///< empty with --patterns 0
  std::int64_t num_checked = 0;
  std::int64_t num_wrong = 0;
};

/// What reshard_perf found out, the same on every rank.
struct LiveResult {
  std::int32_t num_ranks = 0;
  nlohmann::json plan_report;
  std::vector<std::string> warnings;  ///< of the machine's description
  double layout_seconds = 0;
  std::int64_t peak_rss_bytes = 0;  ///< of the largest rank
  Timing total;
  std::int64_t bytes_same_rank = 0;  ///< per run, summed over the ranks, as the two below
  std::int64_t bytes_mapped = 0;
  std::int64_t bytes_sent = 0;
  std::string driver;                        ///< of the binding on this rank: "poll", "nccl"
  std::string driver_reason;                 ///< why, and with which library
  std::int64_t staging_allocated_bytes = 0;  ///< by the binding of the rank with most
  double copy_bytes_per_second =
      0;  ///< plain memory copies by every receiving rank at once, per rank; 0: none receives
  std::vector<PatternResult> patterns;
  std::int64_t num_checked = 0;
  std::int64_t num_wrong = 0;
  std::int64_t num_damaged_guards = 0;

  bool is_correct() const { return num_wrong == 0 && num_damaged_guards == 0; }
};

/// The part of one rank. Collective. Throws Error.
LiveResult run_rank(const PerfOptions& options, const Ranks& ranks);

/// Everything that can be refused without starting a rank. Returns the number of ranks that the job needs.
std::int32_t validate_run(const PerfOptions& options);

}  // namespace reshard::perf
