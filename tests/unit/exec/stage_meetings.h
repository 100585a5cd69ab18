// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which message, or read in place, of one rank's stages is which of its peer's: matched once for all plays of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/exec/stages.h"

namespace reshard::testing {

/// A message or a read in place: the n-th that one end lists for the other is the n-th that the other lists for it.
struct Meeting {
  struct End {
    std::int32_t rank = -1;  ///< -1: the other end lists none
    std::size_t stage = 0;
    StepId id;
  };
  End out;
  End in;
};

struct StageMeetings {
  explicit StageMeetings(std::span<const StageSchedule> stages);

  std::span<const StageSchedule> stages;  ///< of all ranks
  std::vector<Meeting> all;
  /// By rank and stage: places in `all` of what the stage sends and receives, and of what it reads.
  std::vector<std::vector<std::vector<std::size_t>>> messages, reads;
};

}  // namespace reshard::testing
