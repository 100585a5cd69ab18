// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stages.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "src/exec/stage_slots.h"

// What is cut, and in which order, is said by the key alone; the rest follows from the order: which slot each window
// has, and what has to be over before each action. All of it is made once, while the binding is made.

namespace reshard {
namespace {

// The most hops of one window out of one rank in one stage at level 0; each level halves it. Wide fans are rare: a
// window goes to many ranks of a domain only where their memory is not mapped.
constexpr std::int32_t kMostBranches = 64;

// A group of so many keeps all links of a rank busy. Larger ones would only make groups of tensors wait for each other.
constexpr std::int64_t kEnoughOperations = 32;

/// Where a window is on a line of 2^64 points that is cut into as many equal parts as a level has. Both ends of every
/// message are to have about as many windows in each part, so what tells a rank's windows of a round apart is spread
/// evenly: the shift, which is another for each peer of a rank, on both sides alike, and the number of the window among
/// those to one peer. Multiples of an irrational number, taken without their whole part, lie as evenly as can be (of
/// two numbers: Roberts' sequence of the plastic number), however far apart the numbers are that a rank has. The route
/// only tells apart those between one pair that have equal numbers.
std::uint64_t place_of(const WindowOrder& order) {
  constexpr std::uint64_t kShiftStep = 0xC13FA9A902A6328F;
  constexpr std::uint64_t kNumberStep = 0x91E10DA5C79E7B1D;
  constexpr std::uint64_t kRouteStep = 0x9E3779B97F4A7C15;
  return static_cast<std::uint64_t>(order.shift) * kShiftStep + static_cast<std::uint64_t>(order.number) * kNumberStep +
         static_cast<std::uint64_t>(order.route) * kRouteStep;
}

/// Hops of the window in the same round before this one. Delays never fall along a route, so these follow each other.
std::int32_t depth_of(const HopIterator& hops, std::int32_t h) {
  const Hop hop = hops[h];
  std::int32_t depth = 0;
  for (std::int32_t p = hop.parent; p >= 0 && hops[p].delay == hop.delay; p = hops[p].parent) ++depth;
  return depth;
}

/// Place of a hop among those out of one rank that have what they carry from the same hop, in the same round.
std::int32_t branch_of(const HopIterator& hops, std::int32_t h) {
  const Hop hop = hops[h];
  return static_cast<std::int32_t>(std::count_if(hops, hops + h, [&](const Hop& other) {
    return other.parent == hop.parent && other.src == hop.src && other.delay == hop.delay;
  }));
}

/// A window on a hop, as one of its ends has it.
struct Item {
  StageKey key;
  StepId id;
  bool is_out = false;
};

const WindowStep& step_of(const Schedule& schedule, const Item& item) {
  return at(item.is_out ? schedule.out : schedule.in, item.id.lane).steps[item.id.index];
}

/// All items of a rank, by stage, and within one in the plan's one order.
std::vector<Item> sorted_items(const Plan& plan, const Schedule& schedule, const StageLevels& levels) {
  const StageKeys keys(plan);
  std::vector<Item> items;
  std::size_t count = 0;
  for (const Lanes* lanes : {&schedule.out, &schedule.in}) {
    for (const Lane& lane : *lanes) count += lane.steps.size();
  }
  items.reserve(count);
  for (const bool is_out : {true, false}) {
    const Lanes& lanes = is_out ? schedule.out : schedule.in;
    for (std::int32_t lane = 0; lane < static_cast<std::int32_t>(lanes.size()); ++lane) {
      const std::vector<WindowStep>& steps = at(lanes, lane).steps;
      for (std::uint32_t i = 0; i < steps.size(); ++i) {
        items.push_back({keys.of(steps[i], levels), {lane, i}, is_out});
      }
    }
  }
  std::sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
    return a.key == b.key ? step_of(schedule, a).key() < step_of(schedule, b).key() : a.key < b.key;
  });
  return items;
}

bool is_packed(const WindowStep& step) {
  return !step.is_direct && step.place != Place::kSlot;
}

/// Whether the window of a message lies in staging, at this end.
bool is_staged(const Item& item, const WindowStep& step) {
  return item.id.lane != kMappedLane && !step.is_direct;
}

/// Calls visit(first, slots) for the items of each stage, with what is in use of staging from its pack to its unpack.
template <typename Visit>
void for_each_stage(const Schedule& schedule, const std::vector<Item>& items, SlotDemand* slots, const Visit& visit) {
  for (std::size_t i = 0; i < items.size();) {
    const std::size_t begin = i;
    std::int64_t num_operations = 0;
    for (; i < items.size() && items[i].key == items[begin].key; ++i) {
      const WindowStep& step = step_of(schedule, items[i]);
      if (items[i].id.lane != kMappedLane) ++num_operations;
      if (!is_staged(items[i], step)) continue;
      if (step.place != Place::kSlot) {
        items[i].is_out ? slots->add_pack() : slots->add_unpack();
      } else if (!items[i].is_out) {
        slots->add_passing(items[i].id, step.num_forwards);
      } else {
        slots->forward(step.feed);
      }
    }
    visit(items[begin], num_operations, slots->end_stage());
  }
}

// Copies of a device move 16 bytes at a time where both ends begin at multiples of that; so do caches and wires of
// larger ones.
constexpr std::int64_t kSlotAlignment = 256;

std::int64_t slot_bytes_of(const Schedule& schedule, std::int64_t staging_bytes) {
  std::int64_t most = 0;
  for (const bool is_out : {true, false}) {
    const Lanes& lanes = is_out ? schedule.out : schedule.in;
    for (std::int32_t lane = 0; lane < kNumMessageLanes; ++lane) {
      for (const WindowStep& step : at(lanes, lane).steps) {
        if (!step.is_direct) most = std::max(most, step.size_bytes);
      }
    }
  }
  const std::int64_t aligned = (most + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  return 2 * aligned <= staging_bytes ? aligned : most;
}

/// Makes the stages of one rank out of its sorted items.
class StageBuilder {
 public:
  StageBuilder(Schedule schedule, const StageLevels& levels) {
    stages_.schedule = std::move(schedule);
    stages_.levels = levels;
  }

  StageSchedule build(const Plan& plan, const StageLimits& limits) {
    const std::vector<Item> items = sorted_items(plan, stages_.schedule, stages_.levels);
    SlotDemand demand;
    for_each_stage(stages_.schedule, items, &demand, [](const Item&, std::int64_t, std::int64_t) {});
    stages_.slot_bytes = slot_bytes_of(stages_.schedule, limits.staging_bytes);
    const std::int64_t most_slots = stages_.slot_bytes == 0 ? 0 : limits.staging_bytes / stages_.slot_bytes;
    stages_.num_slots = static_cast<std::int32_t>(std::min(most_slots, demand.most_together()));
    assert(demand.most_alone() <= stages_.num_slots);
    add_lists(items);
    give_slots(&stages_);
    stages_.groups.resize(stages_.schedule.work_of_group.size());
    for (std::size_t s = 0; s < stages_.stages.size(); ++s) add_waits(s);
    add_copies();
    return std::move(stages_);
  }

 private:
  void add_lists(const std::vector<Item>& items) {
    for (std::int32_t lane = 0; lane < static_cast<std::int32_t>(in_stages_.size()); ++lane) {
      at(in_stages_, lane).resize(at(stages_.schedule.in, lane).steps.size());
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i == 0 || items[i].key != items[i - 1].key) {
        if (i > 0) end_lists();
        stages_.stages.emplace_back().key = items[i].key;
      }
      add(items[i]);
    }
    if (!items.empty()) end_lists();
  }

  void add(const Item& item) {
    const WindowStep& step = step_of(stages_.schedule, item);
    if (!item.is_out) {
      at(in_stages_, item.id.lane)[item.id.index] = static_cast<std::int32_t>(stages_.stages.size()) - 1;
    }
    if (item.id.lane == kMappedLane) {
      (item.is_out ? stages_.all_lends : stages_.all_reads).push_back(item.id);
      return;
    }
    (item.is_out ? stages_.all_sends : stages_.all_receives).push_back(item.id);
    if (is_packed(step)) (item.is_out ? stages_.all_packs : stages_.all_unpacks).push_back(item.id);
  }

  void end_lists() {
    Stage& stage = stages_.stages.back();
    const auto end = [](const std::vector<StepId>& list) { return static_cast<std::uint32_t>(list.size()); };
    stage.packs_end = end(stages_.all_packs);
    stage.sends_end = end(stages_.all_sends);
    stage.receives_end = end(stages_.all_receives);
    stage.unpacks_end = end(stages_.all_unpacks);
    stage.lends_end = end(stages_.all_lends);
    stage.reads_end = end(stages_.all_reads);
  }

  static void raise(std::int32_t* value, std::int32_t to) { *value = std::max(*value, to); }

  /// What the tensors ask for: bytes that are given on must be there, groups must be open, and are complete when
  /// nothing touches them any more. What slots ask for is there already (give_slots).
  void add_waits(std::size_t s) {
    Stage& stage = stages_.stages[s];
    const auto index = static_cast<std::int32_t>(s);
    for (const StepId id : stages_.sends(s)) {
      const WindowStep& step = stages_.out(id);
      if (step.place == Place::kSlot) continue;  // it came by an exchange, and this one follows that
      add_feed(step, step.is_direct ? &stage.exchange : &stage.pack);
      add_need(step, step.is_direct ? &GroupNeeds::exchange : &GroupNeeds::pack, index);
    }
    for (const StepId id : stages_.lends(s)) {
      add_feed(stages_.out(id), &stage.lend);
      add_need(stages_.out(id), &GroupNeeds::lend, index);
    }
    for (const StepId id : stages_.receives(s)) {
      const WindowStep& step = stages_.in(id);
      add_open(step, step.is_direct ? &stage.exchange : &stage.unpack);
      add_need(step, step.is_direct ? &GroupNeeds::exchange : &GroupNeeds::unpack, index);
    }
    for (const StepId id : stages_.reads(s)) {
      add_open(stages_.in(id), &stage.read);
      add_need(stages_.in(id), &GroupNeeds::read, index);
    }
  }

  void add_feed(const WindowStep& step, Waits* waits) const {
    if (step.feed.lane < 0) return;
    const std::int32_t stage = at(in_stages_, step.feed.lane)[step.feed.index];
    if (step.feed.lane == kMappedLane) {
      raise(&waits->read, stage);
    } else {
      raise(stages_.in(step.feed).is_direct ? &waits->exchange : &waits->unpack, stage);
    }
  }

  void add_open(const WindowStep& step, Waits* waits) const {
    const std::span<const std::int32_t> work = stages_.schedule.work_of(step);
    if (!work.empty()) raise(&waits->group, std::max(-1, work.back() - stages_.schedule.num_open));
  }

  void add_need(const WindowStep& step, std::int32_t GroupNeeds::*kind, std::int32_t stage) {
    for (const std::int32_t position : stages_.schedule.work_of(step))
      raise(&(at(stages_.groups, position).*kind), stage);
  }

  void add_copies() {
    const Schedule& schedule = stages_.schedule;
    std::int32_t local = 0;
    std::int32_t pulls = 0;
    const auto pass = [](const std::vector<GroupStep>& steps, std::int32_t position, std::int32_t* end) {
      while (static_cast<std::size_t>(*end) < steps.size() && at(steps, *end).position <= position) ++*end;
      return *end;
    };
    for (std::size_t p = 0; p < stages_.groups.size(); ++p) {
      stages_.groups[p].local_end = pass(schedule.local, static_cast<std::int32_t>(p), &local);
      stages_.groups[p].pulls_end = pass(schedule.pulls, static_cast<std::int32_t>(p), &pulls);
    }
  }

  StageSchedule stages_;
  std::array<std::vector<std::int32_t>, 3> in_stages_;  // of what comes in, by lane and index
};

/// Finds the levels that a rank needs.
class LevelFinder {
 public:
  LevelFinder(const Plan& plan, const Schedule& schedule, const StageLimits& limits)
      : plan_(plan), keys_(plan), schedule_(schedule), limits_(limits) {
    const std::int64_t slot_bytes = slot_bytes_of(schedule, limits.staging_bytes);
    // Half for a stage, half for its neighbours.
    most_slots_ = slot_bytes == 0 ? 0 : limits.staging_bytes / slot_bytes / 2;
  }

  StageLevels find() {
    levels_.of_band.fill(static_cast<std::uint8_t>(kRoundLevel));
    Bands too_full = find_too_full();
    Bands is_open;
    is_open.fill(keys_.joins_rounds());
    for (std::size_t b = 0; b < too_full.size(); ++b) is_open[b] = is_open[b] && !too_full[b];
    // A round cut into more parts keeps what one of fewer keeps, so the first level that fits is the one.
    while (std::count(too_full.begin(), too_full.end(), true) > 0) {
      for (std::size_t b = 0; b < too_full.size(); ++b) {
        if (too_full[b]) ++levels_.of_band[b];
      }
      too_full = find_too_full();
    }
    join_rounds(is_open);
    return levels_;
  }

 private:
  using Bands = std::array<bool, StageLevels::kNumBands>;

  void join_rounds(Bands is_open) {
    for (std::int32_t level = kRoundLevel - 1; level >= 0; --level) {
      for (std::size_t b = 0; b < is_open.size(); ++b) {
        if (is_open[b]) --levels_.of_band[b];
      }
      const Bands too_full = find_too_full();
      for (std::size_t b = 0; b < is_open.size(); ++b) {
        if (!is_open[b] || !too_full[b]) continue;
        is_open[b] = false;
        ++levels_.of_band[b];
      }
      if (std::count(is_open.begin(), is_open.end(), true) == 0) return;
    }
  }

  /// The bands of which a stage exceeds a limit.
  Bands find_too_full() const {
    Bands found{};
    SlotDemand slots;
    for_each_stage(schedule_, sorted_items(plan_, schedule_, levels_), &slots,
                   [&](const Item& item, std::int64_t num_operations, std::int64_t num_slots) {
                     const WindowStep& step = step_of(schedule_, item);
                     const std::int32_t level = keys_.level_of(step, levels_);
                     if (level < kLastLevel && exceeds(level, num_operations, num_slots)) {
                       found[static_cast<std::size_t>(keys_.band_of(step.order.round))] = true;
                     }
                   });
    return found;
  }

  bool exceeds(std::int32_t level, std::int64_t num_operations, std::int64_t num_slots) const {
    if (level < kRoundLevel && num_operations > kEnoughOperations) return true;
    if (limits_.most_operations > 0 && num_operations > limits_.most_operations) return true;
    return num_slots > most_slots_;
  }

  const Plan& plan_;
  StageKeys keys_;
  const Schedule& schedule_;
  const StageLimits& limits_;
  std::int64_t most_slots_ = 0;
  StageLevels levels_;
};

}  // namespace

StageKeys::StageKeys(const Plan& plan) : plan_(plan) {
  for (const std::int32_t round : plan.rounds) num_rounds_ = std::max<std::int64_t>(num_rounds_, round + 1);
  // Of the hops of one window, those in later rounds would sometimes come into the stage of the earlier ones, and then
  // a level would not simply cut the stages of the one before.
  joins_rounds_ = std::all_of(plan.hops.begin(), plan.hops.end(), [](const Hop& hop) { return hop.delay == 0; });
}

/// Rounds of a schedule are all about as full, here more and there less. Those that only count the windows of a group
/// are the emptier the later they are: few groups of few pairs have many windows.
std::int64_t StageKeys::band_of(std::int64_t round) const {
  if (num_rounds_ > 0) return std::min(kNumBands - 1, round * kNumBands / num_rounds_);
  return static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(round) + 1)) - 1;
}

std::int64_t StageKeys::first_round_of(std::int64_t band) const {
  if (num_rounds_ > 0) return (band * num_rounds_ + kNumBands - 1) / kNumBands;
  return (std::int64_t{1} << band) - 1;
}

StageKey StageKeys::of(const WindowStep& step, std::int32_t level) const {
  const WindowOrder& order = step.order;
  const HopIterator hops = plan_.begin_hops(at(plan_.routes, order.route));
  StageKey key;
  key.phase = order.phase;
  key.round = order.round;
  key.depth = depth_of(hops, step.hop);
  if (level < kRoundLevel && joins_rounds_) {
    const std::int64_t first = first_round_of(band_of(order.round));
    const std::int32_t log2_rounds = kRoundLevel - level;
    key.round = static_cast<std::int32_t>(first + ((order.round - first) >> log2_rounds << log2_rounds));
  }
  const std::int32_t log2_parts = std::max(0, level - kRoundLevel);
  if (level < kLastLevel) {
    // A shift by all 64 bits would be undefined.
    key.part = log2_parts == 0 ? 0 : place_of(order) >> (64 - log2_parts) << (64 - log2_parts);
    key.branch = branch_of(hops, step.hop) / std::max(1, kMostBranches >> log2_parts);
  } else {
    key.part = place_of(order);
    key.route = order.route;
    key.number = order.number;
    key.branch = step.hop;
  }
  return key;
}

StageLevels needed_levels(const Plan& plan, const Schedule& schedule, const StageLimits& limits) {
  return LevelFinder(plan, schedule, limits).find();
}

StageSchedule build_stages(const Plan& plan, Schedule schedule, const StageLevels& levels, const StageLimits& limits) {
  return StageBuilder(std::move(schedule), levels).build(plan, limits);
}

}  // namespace reshard
