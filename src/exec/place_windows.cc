// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/place_windows.h"

#include <algorithm>
#include <tuple>
#include <utility>

// Windows get their slots last, once all of them are known: how many slots a direction needs depends on how many of its
// messages go straight from or to tensors, and on whether both of its lanes stage anything.

namespace reshard {
namespace {

/// Where the windows are that others wait for, by (route, number of the window, hop).
class Places {
 public:
  using Key = std::tuple<std::int64_t, std::int32_t, std::int32_t>;
  void add(const DraftWindow& draft, StepId id) { entries_.push_back({key(draft, draft.step.hop), id}); }
  void sort() {
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.key < b.key; });
  }
  StepId parent_of(const DraftWindow& draft) const {
    const Key wanted = key(draft, draft.parent);
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), wanted,
                                        [](const Entry& entry, const Key& k) { return entry.key < k; });
    return found == entries_.end() || found->key != wanted ? StepId{} : found->id;
  }

 private:
  struct Entry {
    Key key;
    StepId id;
  };
  static Key key(const DraftWindow& draft, std::int32_t hop) {
    return {draft.step.order.route, draft.step.order.number, hop};
  }
  std::vector<Entry> entries_;
};

/// One direction on its way from drafts to lanes.
class Direction {
 public:
  Direction(DraftWindows drafts, bool is_out) : drafts_(std::move(drafts)), is_out_(is_out) {
    // Two hops of one window may touch the same rank only as different hops of the route, so the key is unique, and
    // both ends of a hop find the same place for it.
    std::sort(drafts_.begin(), drafts_.end(),
              [](const DraftWindow& a, const DraftWindow& b) { return a.step.key() < b.step.key(); });
  }

  /// Chooses lanes and slots. The plan has a number of slots for a direction: its lanes share them, half each where
  /// both stage something. With a single slot, or a single message in flight, there is nothing to share: then all
  /// messages take one lane, in the one order. Slots go round within a lane, so a message waits for the one `most`
  /// before it.
  /// @post the slots of both lanes are at most plan.num_slots
  void choose_slots(const Plan& plan) {
    std::array<std::int32_t, kNumMessageLanes> num_staged{};
    for (const DraftWindow& draft : drafts_) {
      if (needs_slot(draft)) ++at(num_staged, natural_lane(draft));
    }
    const bool both_staged = num_staged[kFirstLane] > 0 && num_staged[kRelayLane] > 0;
    has_one_lane_ = plan.most_in_flight == 1 || (both_staged && plan.num_slots == 1);
    std::array<std::int32_t, kNumMessageLanes> most = {plan.num_slots, plan.num_slots};
    if (both_staged && !has_one_lane_) most = {plan.num_slots - plan.num_slots / 2, plan.num_slots / 2};
    num_staged = {};
    for (DraftWindow& draft : drafts_) {
      if (!needs_slot(draft)) continue;
      const std::int32_t lane = lane_of(draft);
      draft.step.slot = at(num_staged, lane)++ % at(most, lane);
      slot_bytes_ = std::max(slot_bytes_, draft.step.size_bytes);
    }
    for (std::int32_t lane = 0; lane < kNumMessageLanes; ++lane) {
      at(num_slots_, lane) = std::min(at(num_staged, lane), at(most, lane));
    }
  }
  std::int64_t slot_bytes() const { return slot_bytes_; }

  /// Moves the windows to their lanes, in their order; `visit` is called with each before.
  template <typename Visit>
  void finish(Lanes* lanes, const Visit& visit) {
    std::array<std::size_t, 3> num_steps{};
    for (const DraftWindow& draft : drafts_) ++at(num_steps, lane_of(draft));
    for (std::size_t lane = 0; lane < lanes->size(); ++lane) (*lanes)[lane].steps.reserve(num_steps[lane]);
    for (std::int32_t lane = 0; lane < kNumMessageLanes; ++lane) at(*lanes, lane).num_slots = at(num_slots_, lane);
    for (; !drafts_.empty(); drafts_.pop_front()) {
      DraftWindow& draft = drafts_.front();
      std::vector<WindowStep>& steps = at(*lanes, lane_of(draft)).steps;
      visit(&draft, StepId{lane_of(draft), static_cast<std::uint32_t>(steps.size())});
      steps.push_back(draft.step);
    }
  }

 private:
  static std::int32_t natural_lane(const DraftWindow& draft) { return draft.step.is_relayed ? kRelayLane : kFirstLane; }
  std::int32_t lane_of(const DraftWindow& draft) const {
    if (draft.is_mapped) return kMappedLane;
    return has_one_lane_ ? kFirstLane : natural_lane(draft);
  }
  // What passes through leaves from the slot that it came to.
  bool needs_slot(const DraftWindow& draft) const {
    return !draft.is_mapped && !draft.step.is_direct && !(is_out_ && draft.step.place == Place::kSlot);
  }

  DraftWindows drafts_;
  bool is_out_;
  bool has_one_lane_ = false;
  std::array<std::int32_t, kNumMessageLanes> num_slots_{};
  std::int64_t slot_bytes_ = 0;
};

}  // namespace

void place_windows(const Plan& plan, DraftWindows out_drafts, DraftWindows in_drafts, Schedule* schedule) {
  Direction out(std::move(out_drafts), true);
  Direction in(std::move(in_drafts), false);
  out.choose_slots(plan);
  in.choose_slots(plan);
  schedule->slot_bytes = std::max(out.slot_bytes(), in.slot_bytes());
  // What comes in is placed first, so it is known where that is which goes on.
  Places places;
  in.finish(&schedule->in, [&](DraftWindow* draft, StepId id) {
    if (draft->feeds_others) places.add(*draft, id);
  });
  places.sort();
  out.finish(&schedule->out, [&](DraftWindow* draft, StepId) {
    if (draft->parent < 0) return;
    const StepId feed = draft->step.feed = places.parent_of(*draft);
    if (draft->step.place == Place::kSlot) ++at(schedule->in, feed.lane).steps[feed.index].num_forwards;
  });
}

}  // namespace reshard
