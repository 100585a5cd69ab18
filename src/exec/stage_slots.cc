// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stage_slots.h"

#include <cassert>
#include <deque>
#include <vector>

#include "src/exec/stages.h"

namespace reshard {
namespace {

/// A slot that nothing uses, and what must be over before something may again.
struct FreeSlot {
  std::int32_t slot = -1;
  Waits since;
  std::int32_t neighbour = -2;  ///< last stage whose exchange a new use would wait for, or hold up
};

/// Slots wait in the order in which they became free, so the one that has rested longest is taken first: whoever gets
/// it waits for nothing that is still under way, as long as there are enough for neighbouring stages. Colouring
/// intervals in the order of their beginnings takes no more colours than there are intervals at any one point.
class SlotGiver {
 public:
  explicit SlotGiver(StageSchedule* stages) : stages_(*stages) {
    for (std::int32_t slot = 0; slot < stages_.num_slots; ++slot) free_.push_back({slot, {}, -2});
    for (std::int32_t lane = 0; lane < kNumMessageLanes; ++lane) {
      at(stages_.out_slots, lane).assign(at(stages_.schedule.out, lane).steps.size(), -1);
      at(stages_.in_slots, lane).assign(at(stages_.schedule.in, lane).steps.size(), -1);
      for (const WindowStep& step : at(stages_.schedule.in, lane).steps) {
        at(num_forwards_, lane).push_back(step.num_forwards);
      }
    }
  }

  void run() {
    const std::size_t count = stages_.stages.size();
    std::size_t num_packed = 0;  // of all packs: those that have their slot
    for (std::size_t s = 0; s < count; ++s) {
      // What this stage cannot do without comes before what the next one would like to have early.
      for (; num_packed < stages_.stages[s].packs_end; ++num_packed) give_pack(s, stages_.all_packs[num_packed]);
      for (const StepId id : stages_.receives(s)) {
        if (!stages_.in(id).is_direct) at(stages_.in_slots, id.lane)[id.index] = take(&stages_.stages[s].exchange);
      }
      if (s + 1 < count) {
        const std::uint32_t end = stages_.stages[s + 1].packs_end;
        while (num_packed < end && is_rested(s)) give_pack(s + 1, stages_.all_packs[num_packed++]);
      }
      release(s);
    }
  }

 private:
  /// Whether the next slot can be packed during the exchange of stage s, beside the unpack of s - 1.
  bool is_rested(std::size_t s) const {
    return !free_.empty() && free_.front().neighbour < static_cast<std::int32_t>(s);
  }

  void give_pack(std::size_t s, StepId id) { at(stages_.out_slots, id.lane)[id.index] = take(&stages_.stages[s].pack); }

  std::int32_t take(Waits* waits) {
    assert(!free_.empty());
    const FreeSlot taken = free_.front();
    free_.pop_front();
    waits->exchange = std::max(waits->exchange, taken.since.exchange);
    waits->unpack = std::max(waits->unpack, taken.since.unpack);
    return taken.slot;
  }

  /// First what the exchange sets free, then what the unpack does, which goes on beside the next exchange.
  void release(std::size_t s) {
    const auto stage = static_cast<std::int32_t>(s);
    for (const StepId id : stages_.packs(s)) release_exchanged(stages_.slot_of(true, id), stage);
    for (const StepId id : stages_.sends(s)) {
      const WindowStep& step = stages_.out(id);
      if (step.place != Place::kSlot) continue;
      const std::int32_t slot = stages_.slot_of(false, step.feed);
      at(stages_.out_slots, id.lane)[id.index] = slot;
      if (--at(num_forwards_, step.feed.lane)[step.feed.index] == 0) release_exchanged(slot, stage);
    }
    for (const StepId id : stages_.unpacks(s)) {
      free_.push_back({stages_.slot_of(false, id), {.unpack = stage}, stage + 1});
    }
  }
  void release_exchanged(std::int32_t slot, std::int32_t stage) { free_.push_back({slot, {.exchange = stage}, stage}); }

  StageSchedule& stages_;
  std::deque<FreeSlot> free_;                                             // ascending by `neighbour`
  std::array<std::vector<std::int32_t>, kNumMessageLanes> num_forwards_;  // still to come, of what comes in
};

}  // namespace

void give_slots(StageSchedule* stages) {
  SlotGiver(stages).run();
}

}  // namespace reshard
