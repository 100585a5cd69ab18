// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Staging slots have lifetimes in stages. A slot that is packed in stage s is in use from then to the end of the
// exchange of s; one that is received in, from the exchange of s to the end of the unpack of s, or, if its bytes only
// pass through, to the end of the exchange that takes them away for the last time. So much is needed where one stage is
// over before the next begins. Stages overlap where a slot is also left alone while the neighbouring stage is under
// way: the pack of s goes on during the exchange of s - 1, and the unpack of s during that of s + 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "src/exec/schedule.h"

namespace reshard {

struct StageSchedule;

/// Counts the slots that are in use at once, stage by stage, without giving any.
class SlotDemand {
 public:
  void add_pack() { ++now_.num_packs; }
  void add_unpack() { ++now_.num_unpacks; }
  /// A window that stays until so many sends have taken it away.
  void add_passing(StepId id, std::int32_t num_forwards) { passing_[{id.lane, id.index}] = num_forwards; }
  void forward(StepId feed) {
    const auto found = passing_.find({feed.lane, feed.index});
    if (--found->second > 0) return;
    passing_.erase(found);
    ++now_.num_gone;
  }
  /// Returns how many are in use in the stage.
  std::int64_t end_stage() {
    const auto num_passing = static_cast<std::int64_t>(passing_.size()) + now_.num_gone;
    const std::int64_t alone = now_.num_packs + now_.num_unpacks + num_passing;
    // Only now is it known what was packed during the exchange of the stage before.
    most_together_ = std::max(most_together_, before_.together + now_.num_packs);
    now_.together = alone + before_.num_unpacks;
    most_together_ = std::max(most_together_, now_.together);
    most_alone_ = std::max(most_alone_, alone);
    before_ = std::exchange(now_, {});
    return alone;
  }
  std::int64_t most_alone() const { return most_alone_; }
  std::int64_t most_together() const { return most_together_; }

 private:
  /// Of one stage.
  struct Counts {
    std::int64_t num_packs = 0;
    std::int64_t num_unpacks = 0;
    std::int64_t num_gone = 0;  // that passed through and left for the last time
    std::int64_t together = 0;  // in use during its exchange, without the packs of the next stage
  };

  Counts now_;
  Counts before_;
  std::map<std::pair<std::int32_t, std::uint32_t>, std::int32_t> passing_;  // forwards to come
  std::int64_t most_alone_ = 0;
  std::int64_t most_together_ = 0;
};

/// Gives every window of a message that is staged its slot, and every action what it waits for on account of slots.
/// @pre the lists are there, and num_slots is enough for one stage at a time
void give_slots(StageSchedule* stages);

}  // namespace reshard
