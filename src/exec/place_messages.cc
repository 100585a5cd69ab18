// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/place_messages.h"

#include <algorithm>
#include <map>
#include <tuple>

// Messages get their memory last, once all of them are known: how many slots a direction needs depends on how many of
// its messages go straight from or to tensors, and on whether both of its lanes stage anything. Until then their copies
// count from an address that means nothing (window_begin()), and are shifted by one distance when the slot is known.

namespace reshard {
namespace {

/// The tensor memory that equals the window byte for byte, if there is one: the window is one copy, and that copy is
/// one run of bytes without conversion.
std::byte* direct_memory(const CopyList& copies, bool is_send) {
  if (copies.num_ops() != 1) return nullptr;
  const PlacedCopy copy = copies.op(0);
  if (!copies.shape_of(copy).is_one_run()) return nullptr;
  // Sending only reads; the transport takes the same kind of pointer for both directions.
  return is_send ? const_cast<std::byte*>(copy.src) : copy.dst;
}

/// One direction on its way from drafts to lanes.
class Direction {
 public:
  Direction(DraftMessages drafts, bool is_send) : drafts_(std::move(drafts)), is_send_(is_send) {
    // Two hops of one window may touch the same rank only as different hops of the route, so the key is unique, and
    // both ends of a hop find the same place for it.
    std::sort(drafts_.begin(), drafts_.end(), [](const DraftMessage& a, const DraftMessage& b) {
      return std::pair{a.order, a.hop} < std::pair{b.order, b.hop};
    });
  }

  /// Chooses lanes and slots. The plan has a number of slots for a direction: its lanes share them, half each where
  /// both stage something. With a single slot, or a single message in flight, there is nothing to share: then all
  /// messages take one lane, in the one order. Slots go round within a lane, so a message waits for the one `most`
  /// before it.
  /// @post the slots of both lanes are at most plan.num_slots
  void choose_slots(const Plan& plan) {
    std::array<std::int32_t, 2> num_staged{};
    for (DraftMessage& draft : drafts_) {
      if (!draft.is_staged) draft.step.data = direct_memory(draft.copies, is_send_);
      if (draft.step.data != nullptr) draft.copies = {};
      if (needs_slot(draft)) ++at(num_staged, natural_lane(draft));
    }
    const bool both_staged = num_staged[kFirstLane] > 0 && num_staged[kRelayLane] > 0;
    has_one_lane_ = plan.most_in_flight == 1 || (both_staged && plan.num_slots == 1);
    std::array<std::int32_t, 2> most = {plan.num_slots, plan.num_slots};
    if (both_staged && !has_one_lane_) most = {plan.num_slots - plan.num_slots / 2, plan.num_slots / 2};
    num_staged = {};
    for (DraftMessage& draft : drafts_) {
      if (!needs_slot(draft)) continue;
      const std::int32_t lane = lane_of(draft);
      draft.step.slot = at(num_staged, lane)++ % at(most, lane);
      slot_bytes_ = std::max(slot_bytes_, draft.step.size_bytes);
    }
    for (std::int32_t lane = 0; lane < 2; ++lane) at(num_slots_, lane) = std::min(at(num_staged, lane), at(most, lane));
  }

  std::size_t num_slots() const {
    return static_cast<std::size_t>(num_slots_[0]) + static_cast<std::size_t>(num_slots_[1]);
  }
  std::size_t slot_bytes() const { return slot_bytes_; }

  /// Where receives are that sends wait for, by (route, number of the window, hop).
  using Places = std::map<std::tuple<std::int64_t, std::int32_t, std::int32_t>, MessageId>;

  /// Moves the messages to their lanes. `slots` is the first byte of the direction's slots. `receives` are those that
  /// bring what sends forward; null for receives themselves, which are entered in *places.
  void finish(std::byte* slots, std::size_t slot_bytes, Places* places, MessageLanes* receives, MessageLanes* out,
              Copier* copier) {
    std::array<std::size_t, 2> num_steps{};
    for (const DraftMessage& draft : drafts_) ++at(num_steps, lane_of(draft));
    for (std::int32_t lane = 0; lane < 2; ++lane) {
      at(*out, lane).num_slots = at(num_slots_, lane);
      at(*out, lane).steps.reserve(at(num_steps, lane));
    }
    for (DraftMessage& draft : drafts_) {
      const std::int32_t lane = lane_of(draft);
      std::vector<MessageStep>& steps = at(*out, lane).steps;
      // A send of bytes that came over another hop waits for the receive that brings them, on this same rank. Receives
      // are placed first, so it is known where that is.
      if (is_send_ && draft.parent >= 0) {
        draft.step.feed = places->at({draft.order.route, draft.order.number, draft.parent});
        MessageStep& feed = at(at(*receives, draft.step.feed.lane).steps, draft.step.feed.index);
        if (draft.step.is_from_staging) {
          draft.step.data = feed.data;
          ++feed.num_forwards;
        }
      }
      if (draft.step.slot >= 0) {
        const std::int32_t slot = (lane == kFirstLane ? 0 : num_slots_[kFirstLane]) + draft.step.slot;
        resolve(slots + static_cast<std::size_t>(slot) * slot_bytes, &draft);
      }
      // What is packed is sent soon, and read by the transport; what is unpacked is installed.
      draft.step.batch = copier->add(std::move(draft.copies), is_send_ ? StoreHint::kCached : StoreHint::kStreaming);
      if (draft.feeds_sends) (*places)[{draft.order.route, draft.order.number, draft.hop}] = {lane, steps.size()};
      steps.push_back(std::move(draft.step));
      draft = {};
    }
  }

 private:
  static std::int32_t natural_lane(const DraftMessage& draft) {
    return draft.step.is_relayed ? kRelayLane : kFirstLane;
  }
  std::int32_t lane_of(const DraftMessage& draft) const { return has_one_lane_ ? kFirstLane : natural_lane(draft); }
  static bool needs_slot(const DraftMessage& draft) {
    return draft.step.data == nullptr && !draft.step.is_from_staging;
  }

  /// The wire side of the copies moves to the slot: what a send packs into, or a receive unpacks from.
  void resolve(std::byte* slot, DraftMessage* draft) const {
    draft->step.data = slot;
    const std::intptr_t distance =
        reinterpret_cast<std::intptr_t>(slot) - reinterpret_cast<std::intptr_t>(window_begin());
    if (is_send_) {
      draft->copies.shift_dst(distance);
    } else {
      draft->copies.shift_src(distance);
    }
  }

  DraftMessages drafts_;
  bool is_send_;
  bool has_one_lane_ = false;
  std::array<std::int32_t, 2> num_slots_{};
  std::size_t slot_bytes_ = 0;
};

}  // namespace

Status place_messages(const Plan& plan, DraftMessages send_drafts, DraftMessages receive_drafts, Program* program) {
  Direction sends(std::move(send_drafts), true);
  Direction receives(std::move(receive_drafts), false);
  sends.choose_slots(plan);
  receives.choose_slots(plan);
  // Slots of one size, that of the largest window, so that any window fits any slot of the rings.
  const std::size_t slot_bytes = std::max(sends.slot_bytes(), receives.slot_bytes());
  const std::size_t staging_bytes = (sends.num_slots() + receives.num_slots()) * slot_bytes;
  program->staging_bytes = static_cast<std::int64_t>(staging_bytes);
  Copier* copier = program->copier.get();
  RESHARD_TRY(std::byte * slots, copier->allocate_staging(staging_bytes));
  Direction::Places places;
  receives.finish(slots, slot_bytes, &places, nullptr, &program->receives, copier);
  sends.finish(slots + receives.num_slots() * slot_bytes, slot_bytes, &places, &program->receives, &program->sends,
               copier);
  return {};
}

}  // namespace reshard
