// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/check_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// What is over before an action begins is a clock: of each kind, up to which stage. Clocks follow from the waits alone,
// and everything is asked of them, so a wait that is missing is found whether or not anything would go wrong by chance.

namespace reshard {
namespace {

enum Kind : std::int32_t { kPack, kExchange, kUnpack, kRead, kLend, kNumKinds };
constexpr const char* kNames[] = {"pack", "exchange", "unpack", "read", "lend"};

/// Of each kind, the last stage that is over, and then the last group that is complete; -1: none.
using Clock = std::array<std::int32_t, kNumKinds + 1>;
constexpr std::size_t kGroups = kNumKinds;
constexpr Clock kStart = {-1, -1, -1, -1, -1, -1};

void join(Clock* clock, const Clock& other) {
  for (std::size_t i = 0; i < clock->size(); ++i) (*clock)[i] = std::max((*clock)[i], other[i]);
}

struct Action {
  Kind kind = kPack;
  std::int32_t stage = -1;
  auto order() const { return std::pair{stage, kind}; }
};

Status wrong(std::int32_t rank, const std::string& what) {
  return {RESHARD_ERR_INTERNAL, fmt::format("rank {}: {}", rank, what)};
}

std::string name(const WindowStep& step) {
  return fmt::format("window {} of route {}, hop {}", step.order.number, step.order.route, step.hop);
}

/// What can be said of one rank alone.
class RankProof {
 public:
  RankProof(const StageSchedule& stages, const StageLimits& limits)
      : stages_(stages), limits_(limits), rank_(stages.schedule.rank) {
    for (std::size_t lane = 0; lane < 3; ++lane) {
      out_[lane].assign(stages.schedule.out[lane].steps.size(), {});
      in_[lane].assign(stages.schedule.in[lane].steps.size(), {});
    }
  }

  Status run() {
    RESHARD_TRY(place_all());
    RESHARD_TRY(check_limits());
    RESHARD_TRY(check_groups());
    RESHARD_TRY(run_clocks());
    RESHARD_TRY(check_feeds());
    RESHARD_TRY(check_open());
    return check_slots();
  }

 private:
  using Actions = std::array<std::vector<Action>, 3>;

  /// Every step is in one stage, and in the lists that it belongs in.
  Status place_all() {
    for (std::size_t s = 0; s < stages_.stages.size(); ++s) {
      if (s > 0 && !(stages_.stages[s - 1].key < stages_.stages[s].key)) {
        return wrong(rank_, fmt::format("stage {} does not come after the one before", s));
      }
      RESHARD_TRY(place(stages_.sends(s), true, kExchange, s));
      RESHARD_TRY(place(stages_.lends(s), true, kLend, s));
      RESHARD_TRY(place(stages_.receives(s), false, kExchange, s));
      RESHARD_TRY(place(stages_.reads(s), false, kRead, s));
      RESHARD_TRY(check_copies(stages_.packs(s), stages_.sends(s), true, s));
      RESHARD_TRY(check_copies(stages_.unpacks(s), stages_.receives(s), false, s));
    }
    for (const Actions* actions : {&out_, &in_}) {
      for (const std::vector<Action>& lane : *actions) {
        const auto lost = std::find_if(lane.begin(), lane.end(), [](const Action& a) { return a.stage < 0; });
        if (lost != lane.end()) return wrong(rank_, "a window is in no stage");
      }
    }
    return {};
  }

  Status place(std::span<const StepId> list, bool is_out, Kind kind, std::size_t s) {
    const WindowStep* before = nullptr;
    for (const StepId id : list) {
      Action& action = at(is_out ? out_ : in_, id.lane).at(id.index);
      const WindowStep& step = is_out ? stages_.out(id) : stages_.in(id);
      if (action.stage >= 0) return wrong(rank_, name(step) + " is in two stages");
      if ((id.lane == kMappedLane) != (kind == kLend || kind == kRead)) {
        return wrong(rank_, name(step) + " is in the wrong list");
      }
      if (before != nullptr && !(before->key() < step.key())) return wrong(rank_, name(step) + " is out of order");
      before = &step;
      action = {kind, static_cast<std::int32_t>(s)};
    }
    return {};
  }

  /// The copies of a stage are of its messages that are staged, all of them.
  Status check_copies(std::span<const StepId> copies, std::span<const StepId> messages, bool is_out, std::size_t s) {
    std::vector<StepId> wanted;
    for (const StepId id : messages) {
      const WindowStep& step = is_out ? stages_.out(id) : stages_.in(id);
      if (!step.is_direct && step.place != Place::kSlot) wanted.push_back(id);
    }
    const auto is_same = [](StepId a, StepId b) { return a.lane == b.lane && a.index == b.index; };
    if (std::equal(copies.begin(), copies.end(), wanted.begin(), wanted.end(), is_same)) return {};
    return wrong(rank_, fmt::format("stage {} does not {} what it should", s, is_out ? "pack" : "unpack"));
  }

  Status check_limits() const {
    if (stages_.staging_bytes() > limits_.staging_bytes) {
      return wrong(rank_, fmt::format("{} bytes of staging, of {}", stages_.staging_bytes(), limits_.staging_bytes));
    }
    if (limits_.most_operations == 0) return {};
    for (std::size_t s = 0; s < stages_.stages.size(); ++s) {
      const std::size_t count = stages_.sends(s).size() + stages_.receives(s).size();
      if (count > static_cast<std::size_t>(limits_.most_operations)) {
        return wrong(rank_, fmt::format("{} operations in stage {}, of {}", count, s, limits_.most_operations));
      }
    }
    return {};
  }

  /// The action in which this rank itself touches the tensors for a window.
  Action tensor_action(bool is_out, const WindowStep& step, Action action) const {
    if (action.kind == kExchange && !step.is_direct) action.kind = is_out ? kPack : kUnpack;
    return action;
  }

  template <typename Visit>
  Status for_each_step(const Visit& visit) const {
    for (const bool is_out : {true, false}) {
      for (std::int32_t lane = 0; lane < 3; ++lane) {
        const std::vector<WindowStep>& steps = at(is_out ? stages_.schedule.out : stages_.schedule.in, lane).steps;
        for (std::uint32_t i = 0; i < steps.size(); ++i) {
          RESHARD_TRY(visit(is_out, StepId{lane, i}, steps[i], at(is_out ? out_ : in_, lane)[i]));
        }
      }
    }
    return {};
  }

  static std::array<std::int32_t, kNumKinds> needs_of(const GroupNeeds& group) {
    return {group.pack, group.exchange, group.unpack, group.read, group.lend};
  }

  /// What groups need is what touches their tensors, no more and no less.
  Status check_groups() const {
    const Schedule& schedule = stages_.schedule;
    std::vector<std::array<std::int32_t, kNumKinds>> wanted(schedule.work_of_group.size(), {-1, -1, -1, -1, -1});
    RESHARD_TRY(for_each_step([&](bool is_out, StepId, const WindowStep& step, Action action) {
      action = tensor_action(is_out, step, action);
      for (const std::int32_t p : schedule.work_of(step)) {
        at(at(wanted, p), action.kind) = std::max(at(at(wanted, p), action.kind), action.stage);
      }
      return Status();
    }));
    if (stages_.groups.size() != wanted.size()) return wrong(rank_, "groups are missing");
    for (std::size_t p = 0; p < wanted.size(); ++p) {
      const GroupNeeds& group = stages_.groups[p];
      const auto count = [&](const std::vector<GroupStep>& steps) {
        return std::count_if(steps.begin(), steps.end(),
                             [&](const GroupStep& s) { return s.position <= static_cast<std::int32_t>(p); });
      };
      if (needs_of(group) != wanted[p] || group.local_end != count(schedule.local) ||
          group.pulls_end != count(schedule.pulls)) {
        return wrong(rank_, fmt::format("the group at position {} needs something else", p));
      }
    }
    return {};
  }

  /// Makes the clocks, stage by stage, and sees that nothing waits for its own stage or a later one.
  Status run_clocks() {
    before_.resize(stages_.stages.size());
    done_.resize(stages_.stages.size());
    for (std::size_t s = 0; s < stages_.stages.size(); ++s) {
      const Stage& stage = stages_.stages[s];
      for (const auto& [kind, waits] :
           {std::pair{kPack, &stage.pack}, std::pair{kExchange, &stage.exchange}, std::pair{kUnpack, &stage.unpack},
            std::pair{kRead, &stage.read}, std::pair{kLend, &stage.lend}}) {
        const auto index = static_cast<std::int32_t>(s);
        Clock clock = done({kind, index - 1});
        RESHARD_TRY(add(*waits, {kind, index}, &clock));
        if (kind == kExchange) join(&clock, done({kPack, index}));
        if (kind == kUnpack) join(&clock, done({kExchange, index}));
        at(before_[s], kind) = clock;
        set_done({kind, index});
      }
    }
    return {};
  }

  /// One that does nothing is never begun, so nobody who waits for it waits for what it would have waited for.
  void set_done(Action action) {
    Clock& clock = at(at(done_, action.stage), action.kind);
    if (is_empty(action)) {
      clock = done({action.kind, action.stage - 1});
    } else {
      clock = before(action);
      at(clock, action.kind) = action.stage;
    }
  }

  Status add(const Waits& waits, Action action, Clock* clock) {
    for (const auto& [kind, stage] :
         {std::pair{kExchange, waits.exchange}, std::pair{kUnpack, waits.unpack}, std::pair{kRead, waits.read}}) {
      if (stage >= action.stage) return wrong(rank_, waits_too_late(action, kNames[kind], stage));
      join(clock, done({kind, stage}));
    }
    if (waits.group < 0) return {};
    for (auto p = static_cast<std::int32_t>(group_clocks_.size()); p <= waits.group; ++p) {
      const std::array<std::int32_t, kNumKinds> needs = needs_of(at(stages_.groups, p));
      Clock complete = p == 0 ? kStart : group_clocks_.back();
      for (std::int32_t kind = 0; kind < kNumKinds; ++kind) {
        if (at(needs, kind) >= action.stage) return wrong(rank_, waits_too_late(action, "group at", p));
        join(&complete, done({static_cast<Kind>(kind), at(needs, kind)}));
      }
      complete[kGroups] = p;
      group_clocks_.push_back(complete);
    }
    join(clock, at(group_clocks_, waits.group));
    return {};
  }
  static std::string waits_too_late(Action action, const char* what, std::int32_t number) {
    return fmt::format("the {} of stage {} waits for the {} {}", kNames[action.kind], action.stage, what, number);
  }

  /// The clock once an action is over, and with it all of its kind before it.
  Clock done(Action action) const { return action.stage < 0 ? kStart : at(at(done_, action.stage), action.kind); }
  bool is_empty(Action action) const {
    const auto s = static_cast<std::size_t>(action.stage);
    switch (action.kind) {
      case kPack:
        return stages_.packs(s).empty();
      case kExchange:
        return stages_.sends(s).empty() && stages_.receives(s).empty();
      case kUnpack:
        return stages_.unpacks(s).empty();
      case kRead:
        return stages_.reads(s).empty();
      default:
        return stages_.lends(s).empty();
    }
  }
  const Clock& before(Action action) const { return at(at(before_, action.stage), action.kind); }
  bool is_over(Action action, const Clock& clock) const { return at(clock, action.kind) >= action.stage; }

  /// What is given on came in a lower stage, and is there.
  Status check_feeds() const {
    return for_each_step([&](bool is_out, StepId, const WindowStep& step, Action action) -> Status {
      if (!is_out || step.feed.lane < 0) return {};
      const Action came = at(in_, step.feed.lane)[step.feed.index];
      if (came.stage >= action.stage) return wrong(rank_, name(step) + " is given on before it comes");
      const bool from_slot = step.place == Place::kSlot;
      const Action there = from_slot ? came : tensor_action(false, stages_.in(step.feed), came);
      const Action taken = from_slot ? action : tensor_action(true, step, action);
      if (is_over(there, before(taken))) return {};
      return wrong(rank_, fmt::format("{} is given on without waiting for the {} of stage {}", name(step),
                                      kNames[there.kind], there.stage));
    });
  }

  /// A group is written to only while no more than so many are open.
  Status check_open() const {
    return for_each_step([&](bool is_out, StepId, const WindowStep& step, Action action) -> Status {
      const std::span<const std::int32_t> work = stages_.schedule.work_of(step);
      if (is_out || work.empty()) return {};
      const std::int32_t needed = work.back() - stages_.schedule.num_open;
      if (before(tensor_action(false, step, action))[kGroups] >= needed) return {};
      return wrong(rank_, fmt::format("{} comes before the group at position {} is complete", name(step), needed));
    });
  }

  /// The time in which a window has a slot.
  struct Use {
    Action first;
    Action last;
    StepId id;
    bool is_out = false;
  };

  Status check_slots() const {
    std::vector<std::vector<Use>> uses(static_cast<std::size_t>(std::max(0, stages_.num_slots)));
    std::map<std::pair<std::int32_t, std::uint32_t>, Action> last_forwards;
    RESHARD_TRY(for_each_step([&](bool is_out, StepId id, const WindowStep& step, Action action) -> Status {
      if (id.lane == kMappedLane) return {};
      const std::int32_t slot = stages_.slot_of(is_out, id);
      if ((slot < 0) != step.is_direct || slot >= stages_.num_slots) {
        return wrong(rank_, fmt::format("{} has slot {} of {}", name(step), slot, stages_.num_slots));
      }
      if (slot < 0) return {};
      if (step.size_bytes > stages_.slot_bytes) return wrong(rank_, name(step) + " is larger than its slot");
      if (is_out && step.place == Place::kSlot) {
        if (slot != stages_.slot_of(false, step.feed)) return wrong(rank_, name(step) + " leaves from another slot");
        Action& last = last_forwards[{step.feed.lane, step.feed.index}];
        if (last.stage < action.stage) last = action;
        return {};
      }
      const Action copy = {is_out ? kPack : kUnpack, action.stage};
      at(uses, slot).push_back(is_out ? Use{copy, action, id, true} : Use{action, copy, id, false});
      return {};
    }));
    for (std::vector<Use>& of_slot : uses) {
      for (Use& use : of_slot) {
        const bool passes = !use.is_out && stages_.in(use.id).place == Place::kSlot;
        if (passes) use.last = last_forwards.at({use.id.lane, use.id.index});
      }
      RESHARD_TRY(check_uses(&of_slot));
    }
    return {};
  }

  Status check_uses(std::vector<Use>* uses) const {
    std::sort(uses->begin(), uses->end(), [](const Use& a, const Use& b) { return a.first.order() < b.first.order(); });
    for (std::size_t i = 1; i < uses->size(); ++i) {
      const Use& use = (*uses)[i];
      const Action last = (*uses)[i - 1].last;
      if (is_over(last, before(use.first))) continue;
      return wrong(rank_, fmt::format("{} takes its slot while the {} of stage {} may use it",
                                      name(use.is_out ? stages_.out(use.id) : stages_.in(use.id)), kNames[last.kind],
                                      last.stage));
    }
    return {};
  }

  const StageSchedule& stages_;
  const StageLimits& limits_;
  std::int32_t rank_;
  Actions out_;  // by lane and index: where the peer takes part, an exchange, a read or a lend
  Actions in_;
  std::vector<std::array<Clock, kNumKinds>> before_;  // by stage and kind: when the action begins
  std::vector<std::array<Clock, kNumKinds>> done_;    // and once it is over
  std::vector<Clock> group_clocks_;                   // by position, as far as anything waited: once it is complete
};

/// Both ends of every window have it in a stage of the same key, and in the same order.
class EndsProof {
 public:
  explicit EndsProof(std::span<const StageSchedule> stages) : stages_(stages) {}

  Status run() {
    for (const StageSchedule& of_rank : stages_) {
      for (std::size_t s = 0; s < of_rank.stages.size(); ++s) {
        add(of_rank, of_rank.sends(s), true, false, s);
        add(of_rank, of_rank.receives(s), false, false, s);
        add(of_rank, of_rank.lends(s), true, true, s);
        add(of_rank, of_rank.reads(s), false, true, s);
      }
    }
    for (const auto& [way, ends] : ways_) {
      const auto& [from, to, is_mapped] = way;
      for (std::size_t i = 0; i < std::max(ends.out.size(), ends.in.size()); ++i) {
        if (i < ends.out.size() && i < ends.in.size() && ends.out[i] == ends.in[i]) continue;
        return wrong(from, fmt::format("{} of {} to rank {} is not what that rank expects next: {}", i, ends.out.size(),
                                       to, describe(ends, i)));
      }
    }
    return {};
  }

 private:
  struct Item {
    StageKey key;
    std::int64_t route = 0;
    std::int32_t number = 0;
    std::int32_t hop = 0;
    std::int64_t size_bytes = 0;
    bool operator==(const Item&) const = default;
  };
  struct Ends {
    std::vector<Item> out;
    std::vector<Item> in;
  };

  void add(const StageSchedule& of_rank, std::span<const StepId> list, bool is_out, bool is_mapped, std::size_t s) {
    for (const StepId id : list) {
      const WindowStep& step = is_out ? of_rank.out(id) : of_rank.in(id);
      const std::int32_t rank = of_rank.schedule.rank;
      const auto [from, to] = is_out ? std::pair{rank, step.peer} : std::pair{step.peer, rank};
      Ends& ends = ways_[{from, to, is_mapped}];
      (is_out ? ends.out : ends.in)
          .push_back({of_rank.stages[s].key, step.order.route, step.order.number, step.hop, step.size_bytes});
    }
  }

  static std::string describe(const Ends& ends, std::size_t i) {
    const auto text = [i](const std::vector<Item>& items) {
      if (i >= items.size()) return std::string("nothing");
      const Item& item = items[i];
      return fmt::format("window {} of route {}, hop {}, in round {}, part {}, depth {}", item.number, item.route,
                         item.hop, item.key.round, item.key.part, item.key.depth);
    };
    return text(ends.out) + "; there: " + text(ends.in);
  }

  std::span<const StageSchedule> stages_;
  std::map<std::tuple<std::int32_t, std::int32_t, bool>, Ends> ways_;  // from, to, whether it is read in place
};

}  // namespace

Status check_stages(std::span<const StageSchedule> stages, const StageLimits& limits) {
  for (const StageSchedule& of_rank : stages) RESHARD_TRY(RankProof(of_rank, limits).run());
  return EndsProof(stages).run();
}

}  // namespace reshard
