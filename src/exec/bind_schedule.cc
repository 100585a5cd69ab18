// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <map>
#include <optional>
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

/// Finds the lists of an older schedule that a new one may take.
class ListKeeper {
 public:
  ListKeeper(const OlderSchedule& older, const Plan& plan, const Schedule& schedule, const RankMemory& memory)
      : older_(older), plan_(plan), schedule_(schedule), memory_(memory) {
    note(older.bound.schedule.local, older.bound.local, older.bound.local_digests);
    note(older.bound.schedule.pulls, older.bound.pulls, older.bound.pull_digests);
  }

  /// The batch of the older schedule that is this list, which begins and ends at the same addresses.
  std::optional<CopyBatch> find(const GroupList& list) const {
    const GroupStep& step = at(list.is_pull ? schedule_.pulls : schedule_.local, list.index);
    if (!list.is_unchanged || !has_same_memory(step.peer)) return std::nullopt;
    const auto found = lists_.find({step.peer, group_of(plan_, schedule_, step)});
    if (found == lists_.end() || found->second.second != list.digest) return std::nullopt;
    return found->second.first;
  }

 private:
  static std::int64_t group_of(const Plan& plan, const Schedule& schedule, const GroupStep& step) {
    const auto count = static_cast<std::int32_t>(plan.groups.size());
    return at(plan.groups, (step.position + schedule.first_group) % count);
  }

  void note(const std::vector<GroupStep>& steps, const std::vector<CopyBatch>& batches,
            const std::vector<std::uint64_t>& digests) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      lists_[{steps[i].peer, group_of(older_.plan, older_.bound.schedule, steps[i])}] = {batches[i], digests[i]};
    }
  }

  /// Address by address: memory that moved is elsewhere, and so are places of conversions, which every binding has
  /// anew.
  bool has_same_memory(std::int32_t peer) const {
    if (older_.memory.dst != memory_.dst) return false;
    if (peer < 0) return older_.memory.src == memory_.src;
    const auto was = older_.memory.peer_src.find(peer);
    const auto is = memory_.peer_src.find(peer);
    return was != older_.memory.peer_src.end() && is != memory_.peer_src.end() && was->second == is->second;
  }

  const OlderSchedule& older_;
  const Plan& plan_;
  const Schedule& schedule_;
  const RankMemory& memory_;
  std::map<std::pair<std::int32_t, std::int64_t>, std::pair<CopyBatch, std::uint64_t>> lists_;  // by peer and group
};

}  // namespace

Result<BoundSchedule> bind_schedule(const Plan& plan, Schedule schedule, const RankMemory& memory,
                                    std::unique_ptr<Copier> copier, const OlderSchedule* older) {
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
  bound.local_digests.resize(of.local.size());
  bound.pull_digests.resize(of.pulls.size());
  std::optional<ListKeeper> keeper;
  if (older != nullptr) keeper.emplace(*older, plan, of, memory);
  CopyTaker taker;
  taker.is_unchanged = [&](std::int64_t tensor) { return older != nullptr && at(older->is_unchanged, tensor); };
  taker.keeps = [&](const GroupList& list) {
    at(list.is_pull ? bound.pull_digests : bound.local_digests, list.index) = list.digest;
    const std::optional<CopyBatch> batch = keeper.has_value() ? keeper->find(list) : std::nullopt;
    if (!batch.has_value()) return false;
    const std::optional<CopyBatch> taken = copier->take(*older->bound.copier, *batch);
    if (taken.has_value()) {
      at(list.is_pull ? bound.pulls : bound.local, list.index) = *taken;
      ++bound.num_kept_lists;
    }
    return taken.has_value();
  };
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
