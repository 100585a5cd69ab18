// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The windows of a schedule cut into stages, for a driver that gives everything to streams before any of it has
// happened. Call a window on a hop an item. Every item has a key that is a function of the item, the plan and the
// levels that all ranks agree on, so both its ends know it; a stage of a rank is all its items of one key,
// and a rank's stages ascend by key. In a stage, in this order:
//   pack      one launch: what is sent from slots is copied into them
//   exchange  one group of sends and receives
//   unpack    one launch: what was received in slots for this rank's tensors is copied there
// and beside them, for peers whose memory is mapped:
//   lend      a peer is told that it may read
//   read      one launch, once all lenders of the stage have said so: copies out of their memory, then they are told
// Each of the five is a kind of action; a rank has at most one action of a kind in a stage. Actions of one kind follow
// each other in the order of stages.
//
// Why nothing blocks for ever, though an exchange ends only when both ends of all its messages have begun theirs, and a
// driver may hold back all that is of later stages: a key is below those of what its bytes are given on with, and all
// that an action waits for on its own rank is of a lower stage, or comes before it in the same one (Waits). So take the
// lowest key that anything unfinished has: all lower ones are finished on all ranks, hence each rank with items of this
// key has begun its lend and its exchange, both ends of each message have begun, and so the exchange ends, and then the
// read, and the unpack. That takes the messages of a group to be under way all at once, whence
// StageLimits::most_operations. check_stages() tests all of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "src/exec/schedule.h"

namespace reshard {

/// The order of stages, equal on all ranks. Phases and rounds are those of WindowOrder: what comes to a rank in one
/// round and leaves it in a later one (a chain that crosses the network again) leaves together with what comes then.
struct StageKey {
  std::int32_t phase = 0;
  std::int32_t round = 0;  ///< the first, where several are joined
  /// Of 2^64 points, the first of the part of the round. The windows of a round are cut into parts, each the same on
  /// all hops of a window: its bytes come to a rank and leave it in one part.
  std::uint64_t part = 0;
  std::int64_t route = -1;   ///< at the last level, where each window is a part; else -1
  std::int32_t number = -1;  ///< as `route`: Window::number
  std::int32_t depth = 0;    ///< hops of the window in the same round before this one
  /// Of the hops of a window out of one rank in one round, which lot; at the last level, each hop is one.
  std::int32_t branch = 0;
  auto key() const { return std::tuple{phase, round, part, route, number, depth, branch}; }
  bool operator<(const StageKey& other) const { return key() < other.key(); }
  bool operator==(const StageKey&) const = default;
};

/// A level is how finely rounds are cut. At kRoundLevel a stage is a round; below it, each level joins twice as many
/// rounds (where no bytes are given on in a later round than they came in; else it is as kRoundLevel); above it, each
/// cuts them into twice as many parts. At kLastLevel a stage is one item. Each level cuts every stage of the one
/// before, so no rank has more operations in a group, or needs more slots, at a higher level.
inline constexpr std::int32_t kRoundLevel = 10;
inline constexpr std::int32_t kLastLevel = 26;

/// Rounds in bands, each of which has a level of its own: some are much fuller than others. All ranks must have the
/// same levels: each says what it needs, and the highest of each band is taken (raise()).
struct StageLevels {
  static constexpr std::size_t kNumBands = 64;
  std::array<std::uint8_t, kNumBands> of_band{};  ///< each at most kLastLevel

  void raise(const StageLevels& other) {
    for (std::size_t b = 0; b < kNumBands; ++b) of_band[b] = std::max(of_band[b], other.of_band[b]);
  }
  std::int32_t highest() const { return *std::max_element(of_band.begin(), of_band.end()); }
  bool operator==(const StageLevels&) const = default;
};

/// What a stage must keep to, at every rank.
struct StageLimits {
  /// Sends and receives of one group; 0: any number. Below it, all messages of a group are under way at once.
  std::int32_t most_operations = 0;
  std::int64_t staging_bytes = 0;  ///< of all slots of a rank; room for two of the plan's windows at least
};

/// What must be over on this rank before an action begins: of each kind, the action of this stage (an index in
/// StageSchedule::stages) and of all before it. -1: none. Not listed, as it is always so: actions of one kind in the
/// order of stages; in a stage, the exchange after the pack, and the unpack after the exchange.
struct Waits {
  std::int32_t exchange = -1;
  std::int32_t unpack = -1;
  std::int32_t read = -1;
  /// Position of a group that must be complete, as must all before it: no more may be open at once.
  std::int32_t group = -1;
};

/// A stage of one rank.
struct Stage {
  StageKey key;
  Waits pack;      ///< its slots are free, and what it gives on is in the tensors
  Waits exchange;  ///< slots that it receives in are free; what it gives on straight from a tensor is there
  Waits unpack;    ///< only of groups
  Waits read;      ///< only of groups
  Waits lend;      ///< what is lent is in the tensors
  /// Where this stage's lists end in those of the StageSchedule; they begin where the ones of the stage before end.
  std::uint32_t packs_end = 0;
  std::uint32_t sends_end = 0;
  std::uint32_t receives_end = 0;
  std::uint32_t unpacks_end = 0;
  std::uint32_t lends_end = 0;
  std::uint32_t reads_end = 0;
};

/// What a group of this rank needs: of each kind, the action of this stage and of all before it, -1 for none. A group
/// is complete when these are over and all groups at lower positions are complete.
struct GroupNeeds {
  std::int32_t pack = -1;      ///< has read the tensors for the last time, to give their bytes on
  std::int32_t exchange = -1;  ///< has written or read the tensors themselves
  std::int32_t unpack = -1;
  std::int32_t read = -1;
  std::int32_t lend = -1;      ///< peers have read what was lent in this stage
  std::int32_t local_end = 0;  ///< Schedule::local before this index
  std::int32_t pulls_end = 0;  ///< Schedule::pulls before this index
};

/// A schedule in stages. Lanes are no queues here but lists that a StepId points into; their slots (Lane::num_slots,
/// WindowStep::slot) are not used.
struct StageSchedule {
  Schedule schedule;
  StageLevels levels;
  std::vector<Stage> stages;  ///< ascending by key

  /// Lists of all stages, one after the other. Within a stage all are in the plan's one order, WindowStep::key(): so
  /// two ranks list what goes from the one to the other in the same order.
  std::vector<StepId> all_packs;     ///< in Schedule::out: those of the sends that are copied into a slot
  std::vector<StepId> all_sends;     ///< in Schedule::out
  std::vector<StepId> all_receives;  ///< in Schedule::in
  std::vector<StepId> all_unpacks;   ///< in Schedule::in: those of the receives that are copied from a slot to tensors
  std::vector<StepId> all_lends;     ///< in Schedule::out, of kMappedLane
  std::vector<StepId> all_reads;     ///< in Schedule::in, of kMappedLane

  /// By lane and index of the schedule's messages: the slot in staging, -1 where the message goes straight from or to a
  /// tensor. What only passes through has the same slot when it leaves as when it came.
  std::array<std::vector<std::int32_t>, kNumMessageLanes> out_slots;
  std::array<std::vector<std::int32_t>, kNumMessageLanes> in_slots;
  std::int32_t num_slots = 0;
  std::int64_t slot_bytes = 0;

  /// By position in the rank's order. Copies of the group at position p (Schedule::local, Schedule::pulls) begin once
  /// the group at p - Schedule::num_open is complete, if there is one: else too many would be open.
  std::vector<GroupNeeds> groups;

  std::int64_t staging_bytes() const { return num_slots * slot_bytes; }
  std::int32_t slot_of(bool is_out, StepId id) const { return at(is_out ? out_slots : in_slots, id.lane)[id.index]; }
  const WindowStep& out(StepId id) const { return at(schedule.out, id.lane).steps[id.index]; }
  const WindowStep& in(StepId id) const { return at(schedule.in, id.lane).steps[id.index]; }

  std::span<const StepId> packs(std::size_t stage) const { return list(all_packs, &Stage::packs_end, stage); }
  std::span<const StepId> sends(std::size_t stage) const { return list(all_sends, &Stage::sends_end, stage); }
  std::span<const StepId> receives(std::size_t stage) const { return list(all_receives, &Stage::receives_end, stage); }
  std::span<const StepId> unpacks(std::size_t stage) const { return list(all_unpacks, &Stage::unpacks_end, stage); }
  std::span<const StepId> lends(std::size_t stage) const { return list(all_lends, &Stage::lends_end, stage); }
  std::span<const StepId> reads(std::size_t stage) const { return list(all_reads, &Stage::reads_end, stage); }

 private:
  std::span<const StepId> list(const std::vector<StepId>& all, std::uint32_t Stage::*end, std::size_t stage) const {
    const std::uint32_t begin = stage == 0 ? 0 : stages[stage - 1].*end;
    return {all.data() + begin, stages[stage].*end - begin};
  }
};

/// The keys of all items of a plan, of which both ends compute the same.
class StageKeys {
 public:
  explicit StageKeys(const Plan& plan);
  StageKey of(const WindowStep& step, const StageLevels& levels) const { return of(step, level_of(step, levels)); }
  StageKey of(const WindowStep& step, std::int32_t level) const;
  /// The band of a round. Those that are joined are of one band.
  std::int64_t band_of(std::int64_t round) const;
  std::int32_t level_of(const WindowStep& step, const StageLevels& levels) const {
    return levels.of_band[static_cast<std::size_t>(band_of(step.order.round))];
  }
  bool joins_rounds() const { return joins_rounds_; }

 private:
  static constexpr auto kNumBands = static_cast<std::int64_t>(StageLevels::kNumBands);
  std::int64_t first_round_of(std::int64_t band) const;

  const Plan& plan_;
  std::int64_t num_rounds_ = 0;  // of the plan's schedule; 0: it has none, and windows are numbered in their groups
  bool joins_rounds_ = true;
};

/// The lowest level of every band at which this rank keeps within the limits, with room for the slots of a neighbouring
/// stage beside each: the pack of the next stage and the unpack of the last one go on during an exchange. The last
/// level needs no more than one slot and one operation.
StageLevels needed_levels(const Plan& plan, const Schedule& schedule, const StageLimits& limits);

/// @pre no level is below that of needed_levels(plan, schedule, limits), and all ranks have the same
/// @post staging_bytes() <= limits.staging_bytes
StageSchedule build_stages(const Plan& plan, Schedule schedule, const StageLevels& levels, const StageLimits& limits);

}  // namespace reshard
