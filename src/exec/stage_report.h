// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a run in stages would take, counted on paper: nothing here is needed to run one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/exec/stages.h"

namespace reshard {

/// Of the stages of one rank.
struct StageCounts {
  std::int32_t rank = -1;
  std::int64_t num_windows = 0;     ///< on their hops: what it sends, receives, lends and reads
  std::int64_t num_operations = 0;  ///< sends and receives
  std::int64_t num_reads = 0;       ///< of windows, out of peers' memory; whole groups that are read are none
  std::int64_t num_rounds = 0;      ///< of the plan, in which it has windows
  std::int64_t num_stages = 0;
  std::int64_t num_groups = 0;  ///< stages with operations
  std::int64_t most_operations = 0;
  std::int64_t num_launches = 0;  ///< packs, unpacks, and reads with their flags
  std::int64_t most_launches = 0;
  std::int64_t staging_bytes = 0;
};
StageCounts count_stages(const StageSchedule& stages);

struct StageReport {
  std::int32_t highest_level = 0;      ///< of the bands in which the ranks have windows
  std::int32_t level_for_staging = 0;  ///< the same, were there no limit of operations
  std::vector<StageCounts> ranks;      ///< most operations first
};

/// Counts the stages of all ranks of a plan, or of those that have most to send and to receive where all would take
/// long. Ranks of a domain of the plan's machine are taken to read each other's memory; without a machine nobody does.
class StageCounter {
 public:
  explicit StageCounter(std::shared_ptr<const Plan> plan);
  bool has_all_ranks() const { return has_all_ranks_; }
  /// At the levels that these ranks need: a lower bound of those of the job, unless they are all.
  StageReport count(std::int32_t most_operations) const;

 private:
  StageLevels levels(std::int32_t most_operations) const;
  std::int32_t highest_used(const StageLevels& levels) const;

  std::shared_ptr<const Plan> plan_;
  bool has_all_ranks_ = true;
  std::vector<Schedule> schedules_;
};

}  // namespace reshard
