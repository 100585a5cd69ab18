// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a rank does for the plan's conversions beside the copies of its steps, which convert as they go where scales are
// at the source (copies.h). In every run: the scales of its sources, before anybody reads these or their scales; and of
// each group that landed, the scales of what landed, then the elements that the caller wants.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/copy_list.h"
#include "kernels/scale_list.h"
#include "src/exec/block_cache.h"
#include "src/exec/bound_schedule.h"
#include "src/exec/group_counter.h"

namespace reshard {

/// Without memory of copiers: what the drivers' own batches are made of.
struct ConversionCopies {
  /// Of one group that landed. Scales come first: the copies use them.
  struct Finish {
    std::int32_t position = 0;  ///< of the group in this rank's order
    ScaleList scales;
    CopyList copies;
  };
  ScaleList before;              ///< of the sources
  std::vector<Finish> finishes;  ///< as Schedule::finishes
};
ConversionCopies make_conversion_copies(const Plan& plan, const Schedule& schedule, const RankMemory& memory);

/// Positions of the groups that this rank converts after they landed, ascending.
std::vector<std::int32_t> finished_positions(const Plan& plan, const Schedule& schedule, BlockCache* dst_blocks);

/// The conversions of a run, as Flight drives them. Sized once.
class ConversionRun {
 public:
  ConversionRun(const BoundSchedule& bound, GroupCounter* groups) : bound_(bound), groups_(groups) {}

  void begin();

  /// Makes the scales of the sources, once the caller's memory may be read; true when they are there.
  Result<bool> prepare(bool* moved);

  /// Converts the next group once all that it waits for but this is done. Groups are taken in the rank's order: none
  /// waits for one behind it.
  Status step(bool* moved);

 private:
  const BoundSchedule& bound_;
  GroupCounter* groups_;
  CopyJob before_;
  std::size_t next_ = 0;  // of BoundSchedule::finishes
  bool is_begun_ = false;
  CopyJob scales_;
  CopyJob copies_;
};

}  // namespace reshard
