// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stages.h"

#include <algorithm>
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
std::vector<Item> sorted_items(const Plan& plan, const Schedule& schedule, std::int32_t level) {
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
        items.push_back({stage_key(plan, steps[i], level), {lane, i}, is_out});
      }
    }
  }
  std::sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
    const auto order = a.key <=> b.key;
    return order != 0 ? order < 0 : step_of(schedule, a).key() < step_of(schedule, b).key();
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

/// What a rank needs at a level.
struct Demand {
  std::int64_t most_operations = 0;
  std::int64_t num_slots = 0;        ///< where neighbouring stages are under way together
  std::int64_t num_slots_alone = 0;  ///< where one is over before the next begins
};

Demand demand_of(const Schedule& schedule, const std::vector<Item>& items) {
  SlotDemand slots;
  Demand demand;
  for (std::size_t i = 0; i < items.size();) {
    const std::size_t begin = i;
    std::int64_t num_operations = 0;
    for (; i < items.size() && items[i].key == items[begin].key; ++i) {
      const WindowStep& step = step_of(schedule, items[i]);
      if (items[i].id.lane != kMappedLane) ++num_operations;
      if (!is_staged(items[i], step)) continue;
      if (step.place != Place::kSlot) {
        items[i].is_out ? slots.add_pack() : slots.add_unpack();
      } else if (!items[i].is_out) {
        slots.add_passing(items[i].id, step.num_forwards);
      } else {
        slots.forward(step.feed);
      }
    }
    slots.end_stage();
    demand.most_operations = std::max(demand.most_operations, num_operations);
  }
  demand.num_slots = slots.most_together();
  demand.num_slots_alone = slots.most_alone();
  return demand;
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
  StageBuilder(Schedule schedule, std::int32_t level) {
    stages_.schedule = std::move(schedule);
    stages_.level = level;
  }

  StageSchedule build(const Plan& plan, const StageLimits& limits) {
    const std::vector<Item> items = sorted_items(plan, stages_.schedule, stages_.level);
    const Demand demand = demand_of(stages_.schedule, items);
    stages_.slot_bytes = slot_bytes_of(stages_.schedule, limits.staging_bytes);
    const std::int64_t most_slots = stages_.slot_bytes == 0 ? 0 : limits.staging_bytes / stages_.slot_bytes;
    stages_.num_slots = static_cast<std::int32_t>(std::min(most_slots, demand.num_slots));
    assert(demand.num_slots_alone <= stages_.num_slots);
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

}  // namespace

StageKey stage_key(const Plan& plan, const WindowStep& step, std::int32_t level) {
  const WindowOrder& order = step.order;
  const HopIterator hops = plan.begin_hops(at(plan.routes, order.route));
  StageKey key;
  key.phase = order.phase;
  key.round = order.round;
  key.depth = depth_of(hops, step.hop);
  if (level < kLastLevel) {
    // A shift by all 64 bits would be undefined.
    key.part = level == 0 ? 0 : place_of(order) >> (64 - level);
    key.branch = branch_of(hops, step.hop) / std::max(1, kMostBranches >> level);
  } else {
    key.part = place_of(order);
    key.route = order.route;
    key.number = order.number;
    key.branch = step.hop;
  }
  return key;
}

std::int32_t needed_level(const Plan& plan, const Schedule& schedule, const StageLimits& limits) {
  const std::int64_t slot_bytes = slot_bytes_of(schedule, limits.staging_bytes);
  for (std::int32_t level = 0; level < kLastLevel; ++level) {
    const Demand demand = demand_of(schedule, sorted_items(plan, schedule, level));
    if (limits.most_operations > 0 && demand.most_operations > limits.most_operations) continue;
    if (demand.num_slots * slot_bytes <= limits.staging_bytes) return level;
  }
  return kLastLevel;
}

StageSchedule build_stages(const Plan& plan, Schedule schedule, std::int32_t level, const StageLimits& limits) {
  return StageBuilder(std::move(schedule), level).build(plan, limits);
}

}  // namespace reshard
