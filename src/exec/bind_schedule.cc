// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <utility>

#include "src/exec/bound_schedule.h"
#include "src/exec/quantise.h"
#include "src/exec/schedule_copies.h"

namespace reshard {
namespace {

/// Slots of receives come first; of each direction those of the first lane.
std::byte* slot_address(const Schedule& schedule, std::byte* slots, bool is_out, StepId id) {
  const WindowStep& step = at(is_out ? schedule.out : schedule.in, id.lane).steps[id.index];
  if (is_out && step.place == Place::kSlot) return slot_address(schedule, slots, false, step.feed);
  std::int64_t slot = step.slot;
  if (is_out) slot += schedule.in[kFirstLane].num_slots + schedule.in[kRelayLane].num_slots;
  if (id.lane == kRelayLane) slot += (is_out ? schedule.out : schedule.in)[kFirstLane].num_slots;
  return slots + slot * schedule.slot_bytes;
}

/// What is packed is sent soon, and read by the transport; what is unpacked, or read in place, is installed.
StoreHint hint_of(const WindowCopies& window) {
  return window.is_out ? StoreHint::kCached : StoreHint::kStreaming;
}

}  // namespace

Result<BoundSchedule> bind_schedule(const Plan& plan, Schedule schedule, const RankMemory& memory,
                                    std::unique_ptr<Copier> copier) {
  BoundSchedule bound;
  bound.schedule = std::move(schedule);
  const Schedule& of = bound.schedule;
  RESHARD_TRY(std::byte* const slots, copier->allocate_staging(static_cast<std::size_t>(of.staging_bytes())));
  bound.local.resize(of.local.size(), CopyBatch::kNone);
  bound.pulls.resize(of.pulls.size(), CopyBatch::kNone);
  for (std::size_t lane = 0; lane < of.in.size(); ++lane) {
    bound.in[lane].resize(of.in[lane].steps.size());
    if (lane != kMappedLane) bound.out[lane].resize(of.out[lane].steps.size());
  }
  CopyTaker taker;
  taker.local = [&](std::size_t i, CopyList copies) {
    bound.local[i] = copier->add(std::move(copies), StoreHint::kAuto);
  };
  taker.pull = [&](std::size_t i, CopyList copies) {
    bound.pulls[i] = copier->add(std::move(copies), StoreHint::kAuto);
  };
  taker.window = [&](WindowCopies window) {
    BoundWindow& at_step = at(window.is_out ? bound.out : bound.in, window.id.lane)[window.id.index];
    const StoreHint hint = hint_of(window);
    at_step.data = window.data;
    at_step.batch = copier->add(std::move(window.copies), hint);
  };
  taker.slot = [&](bool is_out, StepId id) { return slot_address(of, slots, is_out, id); };
  make_copies(plan, of, memory, taker);
  ConversionCopies conversions = make_conversion_copies(plan, of, memory);
  bound.scales_before = copier->add(std::move(conversions.before));
  for (ConversionCopies::Finish& finish : conversions.finishes) {
    const CopyBatch scales = copier->add(std::move(finish.scales));
    bound.finishes.push_back({finish.position, scales, copier->add(std::move(finish.copies), StoreHint::kAuto)});
  }
  RESHARD_TRY(copier->prepare());
  bound.copier = std::move(copier);
  return bound;
}

}  // namespace reshard
