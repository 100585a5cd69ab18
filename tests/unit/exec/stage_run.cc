// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/stage_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <queue>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

namespace reshard::testing {
namespace {

enum Kind : std::size_t { kPack, kExchange, kUnpack, kRead, kLend, kNumKinds };

/// Messages that a kernel takes at one time: at most one to a rank and one from a rank.
struct Round {
  std::array<std::size_t, 2> meetings{};
  std::size_t num_meetings = 0;
  std::size_t num_left = 0;
};
using Kernel = std::vector<Round>;

/// The messages of a group that go as many places on, or come from as many places back: places in
/// GroupQueues::messages.
struct RoundQueue {
  std::array<std::size_t, 2> next{};  // to send, to receive
  std::array<std::size_t, 2> end{};
  std::size_t size() const { return static_cast<std::size_t>(next[0] < end[0]) + (next[1] < end[1] ? 1U : 0U); }
};
struct GroupQueues {
  std::vector<std::size_t> messages;
  std::vector<RoundQueue> rounds;  // those that have any
};

struct RankState {
  std::array<std::size_t, kNumKinds> next{};  // stage of the first action of a kind that is not over
  std::array<bool, kNumKinds> is_under_way{};
  std::size_t next_unread = 0;             // of lends: stage of the first that peers still read
  std::vector<std::int32_t> num_readers;   // by stage: who have yet to read what was lent
  std::vector<bool> is_lent;               // by stage
  std::deque<Kernel> kernels;              // of the group under way
  std::size_t num_begun = 0;               // rounds of the first of them
  std::size_t width = 1;                   // rounds at once
  std::int32_t num_complete = 0;           // groups
  std::array<std::size_t, 2> next_copy{};  // of Schedule::local and Schedule::pulls
  std::array<bool, 2> is_copying{};
  std::vector<std::int32_t> users;                                   // by slot: how many more will take what is in it
  std::vector<std::pair<std::int64_t, std::int32_t>> content;        // by slot: route and number of the window
  std::array<std::vector<bool>, std::tuple_size_v<Lanes>> has_come;  // what is given on, by its place in Schedule::in
};

class Player {
 public:
  Player(const StageMeetings& of, const GroupRule& rule, std::uint32_t seed)
      : of_(of), all_(of.stages), rule_(rule), random_(seed), ranks_(all_.size()), num_come_(of.all.size()) {}

  std::string play() {
    for (std::size_t r = 0; r < all_.size(); ++r) prepare(r);
    for (std::size_t r = 0; r < all_.size(); ++r) advance(r);
    while (!events_.empty() && wrong_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      happen(event);
    }
    if (!wrong_.empty()) return wrong_;
    std::string stuck;
    for (std::size_t r = 0; r < all_.size(); ++r) stuck += describe(r);
    return stuck.empty() ? stuck : "stuck: " + stuck;
  }

 private:
  enum class What { kAction, kMeeting, kCopy };
  struct Event {
    std::int64_t time = 0;
    What what = What::kAction;
    std::size_t rank = 0;
    std::size_t index = 0;  // kind, meeting, or list of copies
    bool operator>(const Event& other) const { return time > other.time; }
  };

  // ---- what is listed where

  void prepare(std::size_t r) {
    const StageSchedule& of = all_[r];
    RankState& rank = ranks_[r];
    const std::size_t count = of.stages.size();
    rank.num_readers.assign(count, 0);
    rank.is_lent.assign(count, false);
    rank.users.assign(static_cast<std::size_t>(of.num_slots), 0);
    rank.content.resize(rank.users.size());
    constexpr std::array<std::size_t, 4> kWidths = {1, 2, 5, 1000};
    rank.width = kWidths[random_() % kWidths.size()];
    for (std::size_t lane = 0; lane < rank.has_come.size(); ++lane) {
      rank.has_come[lane].assign(of.schedule.in[lane].steps.size(), false);
    }
    for (std::size_t s = 0; s < count; ++s) rank.num_readers[s] = static_cast<std::int32_t>(of.lends(s).size());
    for (std::size_t kind = 0; kind < kNumKinds; ++kind) skip_empty(r, kind);
    skip_read(r);
  }

  bool is_empty(std::size_t r, std::size_t kind, std::size_t s) const {
    const StageSchedule& of = all_[r];
    switch (kind) {
      case kPack:
        return of.packs(s).empty();
      case kExchange:
        return of.sends(s).empty() && of.receives(s).empty();
      case kUnpack:
        return of.unpacks(s).empty();
      case kRead:
        return of.reads(s).empty();
      default:
        return of.lends(s).empty();
    }
  }
  void skip_empty(std::size_t r, std::size_t kind) {
    std::size_t& next = ranks_[r].next[kind];
    while (next < all_[r].stages.size() && is_empty(r, kind, next)) ++next;
  }
  void skip_read(std::size_t r) {
    RankState& rank = ranks_[r];
    while (rank.next_unread < rank.num_readers.size() && rank.num_readers[rank.next_unread] == 0) ++rank.next_unread;
  }

  // ---- what may begin

  static bool is_over(std::size_t next, std::int32_t stage) { return static_cast<std::int64_t>(next) > stage; }

  bool may_begin(std::size_t r, const Waits& waits) const {
    const RankState& rank = ranks_[r];
    return is_over(rank.next[kExchange], waits.exchange) && is_over(rank.next[kUnpack], waits.unpack) &&
           is_over(rank.next[kRead], waits.read) && waits.group < rank.num_complete;
  }

  bool may_begin(std::size_t r, std::size_t kind) const {
    const RankState& rank = ranks_[r];
    const std::size_t s = rank.next[kind];
    if (rank.is_under_way[kind] || s == all_[r].stages.size()) return false;
    const Stage& stage = all_[r].stages[s];
    const std::array<const Waits*, kNumKinds> waits = {&stage.pack, &stage.exchange, &stage.unpack, &stage.read,
                                                       &stage.lend};
    if (!may_begin(r, *waits[kind])) return false;
    if (kind == kExchange) return rank.next[kPack] > s;
    if (kind == kUnpack) return rank.next[kExchange] > s;
    if (kind != kRead) return true;
    for (const std::size_t read : of_.reads[r][s]) {
      const Meeting::End& lender = of_.all[read].out;
      if (lender.rank < 0 || !ranks_[static_cast<std::size_t>(lender.rank)].is_lent[lender.stage]) return false;
    }
    return true;
  }

  void advance(std::size_t r) {
    for (bool moved = true; moved && wrong_.empty();) {
      moved = complete_groups(r);
      for (std::size_t kind = 0; kind < kNumKinds; ++kind) {
        if (!may_begin(r, kind)) continue;
        begin(r, kind);
        moved = true;
      }
      for (std::size_t list = 0; list < 2; ++list) moved = begin_copy(r, list) || moved;
    }
  }

  bool complete_groups(std::size_t r) {
    RankState& rank = ranks_[r];
    const std::int32_t before = rank.num_complete;
    while (static_cast<std::size_t>(rank.num_complete) < all_[r].groups.size()) {
      const GroupNeeds& needs = at(all_[r].groups, rank.num_complete);
      const bool is_complete = is_over(rank.next[kPack], needs.pack) && is_over(rank.next[kExchange], needs.exchange) &&
                               is_over(rank.next[kUnpack], needs.unpack) && is_over(rank.next[kRead], needs.read) &&
                               is_over(rank.next_unread, needs.lend) &&
                               rank.next_copy[0] >= static_cast<std::size_t>(needs.local_end) &&
                               rank.next_copy[1] >= static_cast<std::size_t>(needs.pulls_end);
      if (!is_complete) break;
      ++rank.num_complete;
    }
    return rank.num_complete > before;
  }

  bool begin_copy(std::size_t r, std::size_t list) {
    RankState& rank = ranks_[r];
    const Schedule& schedule = all_[r].schedule;
    const std::vector<GroupStep>& steps = list == 0 ? schedule.local : schedule.pulls;
    if (rank.is_copying[list] || rank.next_copy[list] == steps.size()) return false;
    if (steps[rank.next_copy[list]].position - schedule.num_open >= rank.num_complete) return false;
    rank.is_copying[list] = true;
    add_event(What::kCopy, r, list);
    return true;
  }

  void begin(std::size_t r, std::size_t kind) {
    RankState& rank = ranks_[r];
    const StageSchedule& of = all_[r];
    const std::size_t s = rank.next[kind];
    rank.is_under_way[kind] = true;
    if (kind == kExchange) {
      cut_group(r, s);
      begin_rounds(r);
      return;
    }
    if (kind == kPack) {
      for (const StepId id : of.packs(s)) {
        look_for_feed(r, of.out(id));
        fill(r, of.slot_of(true, id), of.out(id), 1);
      }
    }
    if (kind == kLend) {
      for (const StepId id : of.lends(s)) look_for_feed(r, of.out(id));
    }
    if (kind == kUnpack) {
      for (const StepId id : of.unpacks(s)) {
        look_into(r, of.slot_of(false, id), of.in(id));
        look_whether_open(r, of.in(id));
      }
    }
    if (kind == kRead) {
      for (const StepId id : of.reads(s)) look_whether_open(r, of.in(id));
    }
    add_event(What::kAction, r, kind);
  }

  // ---- groups

  /// What a group sends and receives, by the round of its messages.
  GroupQueues queues_of(std::size_t r, std::size_t s) const {
    const std::size_t count = all_.size();
    std::vector<std::tuple<std::size_t, bool, std::size_t>> sorted;  // round, whether received, message
    for (const std::size_t m : of_.messages[r][s]) {
      const Meeting& meeting = of_.all[m];
      // A message without a partner has no round; it is stuck in any.
      const std::int32_t from = std::max(meeting.out.rank, 0);
      const std::int32_t to = std::max(meeting.in.rank, 0);
      const bool is_out = meeting.out.rank == static_cast<std::int32_t>(r);
      sorted.emplace_back((static_cast<std::size_t>(to - from) + count) % count, !is_out, m);
    }
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
      return std::pair{std::get<0>(a), std::get<1>(a)} < std::pair{std::get<0>(b), std::get<1>(b)};
    });
    GroupQueues queues;
    std::size_t last = count;
    for (const auto& [round, is_in, m] : sorted) {
      const std::size_t place = queues.messages.size();
      if (round != last) queues.rounds.push_back({{place, place}, {place, place}});
      last = round;
      RoundQueue& queue = queues.rounds.back();
      queue.end[1] = place + 1;
      if (!is_in) queue.end[0] = queue.next[1] = place + 1;
      queues.messages.push_back(m);
    }
    return queues;
  }

  /// Cuts a group into kernels. Each rank's own business: both ends may cut at different places.
  void cut_group(std::size_t r, std::size_t s) {
    RankState& rank = ranks_[r];
    GroupQueues queues = queues_of(r, s);
    rank.kernels.clear();
    rank.num_begun = 0;
    std::size_t num_left = queues.messages.size();
    std::int32_t room = 0;
    for (std::size_t q = 0; num_left > 0; q = (q + 1) % queues.rounds.size()) {
      RoundQueue& queue = queues.rounds[q];
      const auto size = static_cast<std::int32_t>(queue.size());
      if (size == 0) continue;
      if (size > room) {
        room = rule_.operations_per_kernel;
        rank.kernels.emplace_back();
        if (rule_.restarts && rank.kernels.size() > 1) {
          q = queues.rounds.size() - 1;
          continue;
        }
      }
      Round& taken = rank.kernels.back().emplace_back();
      for (std::size_t way = 0; way < 2; ++way) {
        if (queue.next[way] == queue.end[way]) continue;
        taken.meetings[taken.num_meetings++] = queues.messages[queue.next[way]++];
      }
      taken.num_left = taken.num_meetings;
      num_left -= taken.num_left;
      room -= size;
    }
  }

  /// Begins as many rounds of the kernel under way as it takes at once: in order, and none while one that is so far
  /// before it is not over.
  void begin_rounds(std::size_t r) {
    RankState& rank = ranks_[r];
    Kernel& kernel = rank.kernels.front();
    std::size_t first = 0;
    while (first < kernel.size() && kernel[first].num_left == 0) ++first;
    for (; rank.num_begun < std::min(kernel.size(), first + rank.width); ++rank.num_begun) {
      const Round& round = kernel[rank.num_begun];
      for (std::size_t i = 0; i < round.num_meetings; ++i) come(r, round.meetings[i]);
    }
  }

  void come(std::size_t r, std::size_t m) {
    const Meeting& meeting = of_.all[m];
    const StageSchedule& of = all_[r];
    const bool is_out = meeting.out.rank == static_cast<std::int32_t>(r);
    const Meeting::End& end = is_out ? meeting.out : meeting.in;
    const WindowStep& step = is_out ? of.out(end.id) : of.in(end.id);
    if (is_out && step.is_direct) look_for_feed(r, step);
    if (is_out && !step.is_direct) look_into(r, of.slot_of(true, end.id), step);
    if (!is_out && step.is_direct) look_whether_open(r, step);
    if (!is_out && !step.is_direct) {
      fill(r, of.slot_of(false, end.id), step, step.place == Place::kSlot ? step.num_forwards : 1);
    }
    if (++num_come_[m] == 2) add_event(What::kMeeting, 0, m);
  }

  void end_meeting(std::size_t m) {
    const Meeting& meeting = of_.all[m];
    const WindowStep& out = all_[static_cast<std::size_t>(meeting.out.rank)].out(meeting.out.id);
    const WindowStep& in = all_[static_cast<std::size_t>(meeting.in.rank)].in(meeting.in.id);
    if (std::tuple{out.order.route, out.order.number, out.hop} != std::tuple{in.order.route, in.order.number, in.hop}) {
      wrong_ = fmt::format("rank {} gets window {} from rank {} for window {}", meeting.in.rank, out.order.number,
                           meeting.out.rank, in.order.number);
      return;
    }
    for (const bool is_out : {true, false}) {
      const Meeting::End end = is_out ? meeting.out : meeting.in;
      const auto r = static_cast<std::size_t>(end.rank);
      const WindowStep& step = is_out ? out : in;
      if (is_out && !step.is_direct) empty(r, all_[r].slot_of(true, end.id));
      if (!is_out && (step.is_direct || step.place == Place::kSlot)) note_come(r, end.id);
    }
    end_operation(static_cast<std::size_t>(meeting.out.rank), m);
    end_operation(static_cast<std::size_t>(meeting.in.rank), m);
  }

  void end_operation(std::size_t r, std::size_t m) {
    RankState& rank = ranks_[r];
    Kernel& kernel = rank.kernels.front();
    bool is_over = true;
    for (Round& round : kernel) {
      const auto end = round.meetings.begin() + static_cast<std::ptrdiff_t>(round.num_meetings);
      if (std::find(round.meetings.begin(), end, m) != end) --round.num_left;
      is_over = is_over && round.num_left == 0;
    }
    if (is_over) {
      rank.kernels.pop_front();
      rank.num_begun = 0;
    }
    if (rank.kernels.empty()) {
      end_action(r, kExchange);
    } else {
      begin_rounds(r);
    }
  }

  // ---- what happens

  void add_event(What what, std::size_t rank, std::size_t index) {
    // Some take a thousand times as long as others.
    const std::int64_t delay = std::int64_t{1} << (random_() % 12U);
    events_.push({now_ + delay + static_cast<std::int64_t>(random_() % 3U), what, rank, index});
  }

  void happen(const Event& event) {
    if (event.what == What::kMeeting) {
      end_meeting(event.index);
    } else if (event.what == What::kAction) {
      end_action(event.rank, event.index);
    } else {
      ranks_[event.rank].is_copying[event.index] = false;
      ++ranks_[event.rank].next_copy[event.index];
      advance(event.rank);
    }
  }

  void end_action(std::size_t r, std::size_t kind) {
    RankState& rank = ranks_[r];
    const StageSchedule& of = all_[r];
    const std::size_t s = rank.next[kind]++;
    rank.is_under_way[kind] = false;
    skip_empty(r, kind);
    if (kind == kUnpack) {
      for (const StepId id : of.unpacks(s)) {
        empty(r, of.slot_of(false, id));
        note_come(r, id);
      }
    }
    if (kind == kLend) {
      rank.is_lent[s] = true;
      for (const StepId id : of.lends(s)) advance(static_cast<std::size_t>(of.out(id).peer));
    }
    if (kind == kRead) {
      for (const StepId id : of.reads(s)) note_come(r, id);
      for (const std::size_t read : of_.reads[r][s]) {
        const Meeting::End& lender = of_.all[read].out;
        const auto p = static_cast<std::size_t>(lender.rank);
        --ranks_[p].num_readers[lender.stage];
        skip_read(p);
        advance(p);
      }
    }
    advance(r);
  }

  // ---- what must hold

  void note_come(std::size_t r, StepId id) { at(ranks_[r].has_come, id.lane)[id.index] = true; }

  void look_for_feed(std::size_t r, const WindowStep& step) {
    if (step.feed.lane < 0 || at(ranks_[r].has_come, step.feed.lane)[step.feed.index]) return;
    wrong_ = fmt::format("rank {} gives on window {} of route {} before it is there", r, step.order.number,
                         step.order.route);
  }
  void look_whether_open(std::size_t r, const WindowStep& step) {
    const std::span<const std::int32_t> work = all_[r].schedule.work_of(step);
    if (work.empty() || work.back() - all_[r].schedule.num_open < ranks_[r].num_complete) return;
    wrong_ = fmt::format("rank {} writes to the group at position {} while {} are complete", r, work.back(),
                         ranks_[r].num_complete);
  }
  void fill(std::size_t r, std::int32_t slot, const WindowStep& step, std::int32_t num_users) {
    std::int32_t& users = at(ranks_[r].users, slot);
    if (users > 0) wrong_ = fmt::format("rank {} overwrites slot {}, which is in use", r, slot);
    users = num_users;
    at(ranks_[r].content, slot) = {step.order.route, step.order.number};
  }
  void look_into(std::size_t r, std::int32_t slot, const WindowStep& step) {
    if (at(ranks_[r].users, slot) > 0 &&
        at(ranks_[r].content, slot) == std::pair{step.order.route, step.order.number}) {
      return;
    }
    wrong_ = fmt::format("rank {} looks for window {} in slot {}, where it is not", r, step.order.number, slot);
  }
  void empty(std::size_t r, std::int32_t slot) { --at(ranks_[r].users, slot); }

  std::string describe(std::size_t r) const {
    const RankState& rank = ranks_[r];
    std::string text;
    constexpr std::array<const char*, kNumKinds> kNames = {"pack", "exchange", "unpack", "read", "lend"};
    for (std::size_t kind = 0; kind < kNumKinds; ++kind) {
      if (rank.next[kind] == all_[r].stages.size()) continue;
      text += fmt::format("rank {}: {} of stage {}; ", r, kNames[kind], rank.next[kind]);
    }
    if (text.empty() && static_cast<std::size_t>(rank.num_complete) < all_[r].groups.size()) {
      text = fmt::format("rank {}: group {}; ", r, rank.num_complete);
    }
    return text;
  }

  const StageMeetings& of_;
  std::span<const StageSchedule> all_;
  GroupRule rule_;
  std::mt19937 random_;
  std::vector<RankState> ranks_;
  std::vector<std::uint8_t> num_come_;  // by meeting: ends
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::int64_t now_ = 0;
  std::string wrong_;
};

}  // namespace

std::string play(const StageMeetings& meetings, const GroupRule& rule, std::uint32_t seed) {
  return Player(meetings, rule, seed).play();
}

std::string play(std::span<const StageSchedule> stages, const GroupRule& rule, std::uint32_t seed) {
  return play(StageMeetings(stages), rule, seed);
}

}  // namespace reshard::testing
