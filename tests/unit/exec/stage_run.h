// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Plays the stages of all ranks with groups that block as those of NCCL do. A group is cut into kernels, one after the
// other, each of so many operations at most. A kernel takes its messages in the order of NCCL's rounds (to the rank r
// places on, from the one r places back, r = 0, 1, ..., and again for the second message of each pair), a few rounds at
// once; a message moves once both of its ends have come to it, and takes as long as it likes; the kernel ends with its
// last message. No byte is moved: what is looked at is who waits for whom, what is in which slot, and what has come.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "src/exec/stages.h"
#include "tests/unit/exec/stage_meetings.h"

namespace reshard::testing {

struct GroupRule {
  /// Whether the second kernel of a group begins again at round 0, as in NCCL before 2.29.7, or where the first ended.
  bool restarts = true;
  std::int32_t operations_per_kernel = 6;
};

/// A run with delays and widths drawn from a seed. Empty: it ended, and everything was where it was looked for. Else
/// what went wrong first; "stuck" where nothing can move any more. By what was matched before, where many runs follow.
std::string play(const StageMeetings& meetings, const GroupRule& rule, std::uint32_t seed);
std::string play(std::span<const StageSchedule> stages, const GroupRule& rule, std::uint32_t seed);

}  // namespace reshard::testing
