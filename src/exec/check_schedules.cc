// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/check_schedules.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// A graph of events: a node for everything that happens to a step in a run, an edge from each to what it waits for, or
// to more than that. The drivers allow more than is assumed here: a lane is taken to have one message under way, where
// they have several. So what cannot stop here cannot stop there: a run that has stopped has an event that waits for one
// that waits ..., each an edge of this graph or a path of it, and there would have to be a circle.
// - A lane that waits for a place among the messages in flight waits for one of its own: the last place is kept for a
//   lane that has none in flight. That takes two places where there are two lanes.
// - A slot is free when the step that had it before is done, which is an earlier one of the lane; if bytes pass through
//   it, when their sends are done.

namespace reshard {
namespace {

enum class StepEvent : std::uint8_t {
  kPost,   ///< a message is given to the messenger
  kDone,   ///< what goes out: the send has ended, or the peer has read
  kHere,   ///< what comes in: unpacked, or copied out of the peer
  kGive,   ///< what goes out: confirmed to the peer; of what is lent, the signal that it may be read
  kGroup,  ///< a group is complete, and all before it
  kCopy,   ///< within the rank
  kPull,   ///< a group out of a peer's source
};

/// A window step of one rank.
struct StepRef {
  std::int32_t rank = -1;
  bool is_out = false;
  StepId id;
  auto key() const { return std::tuple{rank, is_out, id.lane, id.index}; }
  bool operator<(const StepRef& other) const { return key() < other.key(); }
};

class Proof {
 public:
  explicit Proof(std::span<const Schedule> schedules) : schedules_(schedules) {}

  Status run() {
    for (const Schedule& schedule : schedules_) RESHARD_TRY(look_at(schedule));
    RESHARD_TRY(match());
    for (const Schedule& schedule : schedules_) add_rank(schedule);
    for (const auto& [way, ends] : ways_) add_way(ends);
    return find_circle();
  }

 private:
  using NodeKey =
      std::tuple<StepEvent, std::int32_t, bool, std::int32_t, std::uint32_t>;  // event and StepRef, or position
  struct Node {
    NodeKey key;
    std::vector<std::int32_t> needs;
    std::int32_t num_open = 0;  // of them
  };
  /// All windows of one kind from one rank to another: those of messages, and those that are read in place.
  struct Ends {
    std::vector<StepRef> out[2];
    std::vector<StepRef> in[2];
  };

  const WindowStep& step(const StepRef& ref) const {
    const Schedule& schedule = at(schedules_, ref.rank);
    return at(ref.is_out ? schedule.out : schedule.in, ref.id.lane).steps[ref.id.index];
  }

  std::string name(const StepRef& ref) const {
    const WindowStep& of = step(ref);
    const bool is_mapped = ref.id.lane == kMappedLane;
    const char* what =
        ref.is_out ? (is_mapped ? "lends to" : "sends to") : (is_mapped ? "reads from" : "receives from");
    return fmt::format("rank {} {} rank {}: window {} of route {}, hop {}", ref.rank, what, of.peer, of.order.number,
                       of.order.route, of.hop);
  }

  Status wrong(const StepRef& ref, const std::string& why) const {
    return {RESHARD_ERR_INTERNAL, name(ref) + ": " + why};
  }

  template <typename Visit>
  void for_each_step(const Schedule& schedule, const Visit& visit) const {
    for (const bool is_out : {false, true}) {
      const Lanes& lanes = is_out ? schedule.out : schedule.in;
      for (std::int32_t lane = 0; lane < 3; ++lane) {
        const auto count = static_cast<std::uint32_t>(at(lanes, lane).steps.size());
        for (std::uint32_t i = 0; i < count; ++i) visit(StepRef{schedule.rank, is_out, {lane, i}});
      }
    }
  }

  /// What can be said of a rank alone.
  Status look_at(const Schedule& schedule) {
    Status status;
    for_each_step(schedule, [&](const StepRef& ref) {
      if (status.ok()) status = look_at(schedule, ref);
    });
    RESHARD_TRY(status);
    for_each_step(schedule, [&](const StepRef& ref) {
      const auto forwards = forwards_.find(ref);
      std::int64_t count = 0;
      for (const StepRef& forward : forwards == forwards_.end() ? std::vector<StepRef>() : forwards->second) {
        if (step(forward).place == Place::kSlot) ++count;
      }
      if (status.ok() && step(ref).num_forwards != count) {
        status = wrong(ref, fmt::format("its slot is released after {} sends, and {} leave from it",
                                        step(ref).num_forwards, count));
      }
    });
    RESHARD_TRY(status);
    for (const Lanes* lanes : {&schedule.out, &schedule.in}) {
      const bool has_two = !(*lanes)[kFirstLane].steps.empty() && !(*lanes)[kRelayLane].steps.empty();
      if (has_two && schedule.most_in_flight == 1) {
        return {RESHARD_ERR_INTERNAL, fmt::format("rank {} has two lanes and one message in flight", schedule.rank)};
      }
    }
    return {};
  }

  Status look_at(const Schedule& schedule, const StepRef& ref) {
    const WindowStep& of = step(ref);
    if (of.peer < 0 || static_cast<std::size_t>(of.peer) >= schedules_.size())
      return wrong(ref, "there is no such rank");
    const Lane& lane = at(ref.is_out ? schedule.out : schedule.in, ref.id.lane);
    const bool has_slot = ref.id.lane != kMappedLane && !of.is_direct && !(ref.is_out && of.place == Place::kSlot);
    if (has_slot != (of.slot >= 0) || of.slot >= lane.num_slots) {
      return wrong(ref, fmt::format("slot {} of {}", of.slot, lane.num_slots));
    }
    if (has_slot && of.size_bytes > schedule.slot_bytes) return wrong(ref, "it is larger than its slot");
    if (!ref.is_out) return {};
    if ((of.place == Place::kSource) != (of.feed.lane < 0)) return wrong(ref, "nothing brings it, or too much");
    if (of.feed.lane >= 0) {
      const StepRef feed{ref.rank, false, of.feed};
      if (of.feed.index >= at(schedule.in, of.feed.lane).steps.size()) return wrong(ref, "what brings it is missing");
      const WindowOrder& order = step(feed).order;
      if (order.route != of.order.route || order.number != of.order.number) {
        return wrong(ref, "it goes on from another window: " + name(feed));
      }
      forwards_[feed].push_back(ref);
    }
    return {};
  }

  /// Both ends of every hop have the same windows in the same order.
  Status match() {
    for (const Schedule& schedule : schedules_) {
      for_each_step(schedule, [&](const StepRef& ref) {
        const WindowStep& of = step(ref);
        const auto [from, to] = ref.is_out ? std::pair{ref.rank, of.peer} : std::pair{of.peer, ref.rank};
        Ends& ends = ways_[{from, to, of.is_relayed}];
        (ref.is_out ? ends.out : ends.in)[ref.id.lane == kMappedLane ? 1 : 0].push_back(ref);
      });
    }
    const auto what = [&](const StepRef& ref) {
      const WindowStep& of = step(ref);
      return std::tuple{of.order.route, of.order.number, of.hop, of.size_bytes};
    };
    for (const auto& [way, ends] : ways_) {
      for (int mapped = 0; mapped < 2; ++mapped) {
        const std::vector<StepRef>& out = ends.out[mapped];
        const std::vector<StepRef>& in = ends.in[mapped];
        for (std::size_t i = 0; i < std::max(out.size(), in.size()); ++i) {
          if (i >= out.size()) return wrong(in[i], "the peer gives nothing for it");
          if (i >= in.size()) return wrong(out[i], "the peer does not take it");
          if (what(out[i]) != what(in[i])) return wrong(out[i], "the peer expects another one: " + name(in[i]));
          peer_of_[out[i]] = in[i];
          peer_of_[in[i]] = out[i];
        }
      }
    }
    return {};
  }

  std::int32_t node(StepEvent event, const StepRef& ref) {
    return node(NodeKey{event, ref.rank, ref.is_out, ref.id.lane, ref.id.index});
  }
  /// Of a group by its position, or of its copies.
  std::int32_t node(StepEvent event, std::int32_t rank, std::int32_t position, std::int32_t peer = -1) {
    return node(NodeKey{event, rank, false, position, static_cast<std::uint32_t>(peer + 1)});
  }
  std::int32_t node(const NodeKey& key) {
    const auto [known, is_new] = index_.try_emplace(key, static_cast<std::int32_t>(nodes_.size()));
    if (is_new) nodes_.push_back({key, {}, 0});
    return known->second;
  }
  void add(std::int32_t event, std::int32_t needed) { at(nodes_, event).needs.push_back(needed); }

  /// Bytes of a group at this position are accepted once those so many before it are complete.
  void add_open(std::int32_t event, const Schedule& schedule, std::int32_t position) {
    if (position >= schedule.num_open) add(event, node(StepEvent::kGroup, schedule.rank, position - schedule.num_open));
  }

  void add_rank(const Schedule& schedule) {
    const std::int32_t rank = schedule.rank;
    const auto num_groups = static_cast<std::int32_t>(schedule.work_of_group.size());
    for (std::int32_t p = 1; p < num_groups; ++p)
      add(node(StepEvent::kGroup, rank, p), node(StepEvent::kGroup, rank, p - 1));
    std::int32_t before = -1;
    for (const GroupStep& local : schedule.local) {
      const std::int32_t copy = node(StepEvent::kCopy, rank, local.position);
      if (before >= 0) add(copy, before);
      add_open(copy, schedule, local.position);
      add(node(StepEvent::kGroup, rank, local.position), copy);
      before = copy;
    }
    // Their source's word that it is ready is unconditional.
    for (const GroupStep& pull : schedule.pulls) {
      const std::int32_t copy = node(StepEvent::kPull, rank, pull.position, pull.peer);
      add_open(copy, schedule, pull.position);
      add(node(StepEvent::kGroup, rank, pull.position), copy);
    }
    for (std::int32_t lane = 0; lane < kNumMessageLanes; ++lane) add_lanes(schedule, lane);
    for_each_step(schedule, [&](const StepRef& ref) { add_groups(schedule, ref); });
  }

  void add_lanes(const Schedule& schedule, std::int32_t lane) {
    for (std::uint32_t i = 0; i < at(schedule.out, lane).steps.size(); ++i) {
      const StepRef ref{schedule.rank, true, {lane, i}};
      const std::int32_t post = node(StepEvent::kPost, ref);
      if (i > 0) add(post, node(StepEvent::kDone, StepRef{schedule.rank, true, {lane, i - 1}}));
      if (step(ref).feed.lane >= 0) add(post, node(StepEvent::kHere, StepRef{schedule.rank, false, step(ref).feed}));
    }
    std::map<std::int32_t, StepRef> last_of_slot;
    for (std::uint32_t i = 0; i < at(schedule.in, lane).steps.size(); ++i) {
      const StepRef ref{schedule.rank, false, {lane, i}};
      const std::int32_t post = node(StepEvent::kPost, ref);
      if (i > 0) add(post, node(StepEvent::kHere, StepRef{schedule.rank, false, {lane, i - 1}}));
      const std::span<const std::int32_t> work = schedule.work_of(step(ref));
      if (!work.empty()) add_open(post, schedule, work.back());
      if (step(ref).slot < 0) continue;
      const auto last = last_of_slot.find(step(ref).slot);
      if (last != last_of_slot.end() && step(last->second).num_forwards > 0) {
        for (const StepRef& forward : forwards_[last->second]) add(post, node(StepEvent::kDone, forward));
      }
      last_of_slot[step(ref).slot] = ref;
    }
  }

  /// What a group waits for: its windows are here and confirmed, and nobody reads them any more.
  void add_groups(const Schedule& schedule, const StepRef& ref) {
    for (const std::int32_t position : schedule.work_of(step(ref))) {
      const std::int32_t group = node(StepEvent::kGroup, ref.rank, position);
      add(group, node(ref.is_out ? StepEvent::kDone : StepEvent::kHere, ref));
      if (!ref.is_out) add(group, node(StepEvent::kGive, peer_of_.at(ref)));
    }
  }

  void add_way(const Ends& ends) {
    for (std::size_t i = 0; i < ends.out[0].size(); ++i) {
      const StepRef& out = ends.out[0][i];
      const StepRef& in = ends.in[0][i];
      for (const std::int32_t post : {node(StepEvent::kPost, out), node(StepEvent::kPost, in)}) {
        add(node(StepEvent::kDone, out), post);
        add(node(StepEvent::kHere, in), post);
      }
      add(node(StepEvent::kGive, out), node(StepEvent::kDone, out));
    }
    for (std::size_t i = 0; i < ends.out[1].size(); ++i) {
      const StepRef& out = ends.out[1][i];
      const StepRef& in = ends.in[1][i];
      const Schedule& reader = at(schedules_, in.rank);
      add(node(StepEvent::kHere, in), node(StepEvent::kGive, out));
      add_open(node(StepEvent::kHere, in), reader, reader.work_of(step(in)).back());
      add(node(StepEvent::kDone, out), node(StepEvent::kHere, in));
      if (step(out).feed.lane >= 0)
        add(node(StepEvent::kGive, out), node(StepEvent::kHere, StepRef{out.rank, false, step(out).feed}));
      if (i == 0) continue;
      add(node(StepEvent::kHere, in), node(StepEvent::kHere, ends.in[1][i - 1]));
      add(node(StepEvent::kDone, out), node(StepEvent::kDone, ends.out[1][i - 1]));
    }
    // Confirmed in one order, whether sent or lent, and only what is confirmed to this rank.
    std::vector<StepRef> all = ends.out[0];
    all.insert(all.end(), ends.out[1].begin(), ends.out[1].end());
    std::sort(all.begin(), all.end(),
              [&](const StepRef& a, const StepRef& b) { return step(a).key() < step(b).key(); });
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::int32_t give = node(StepEvent::kGive, all[i]);
      const StepId feed = step(all[i]).feed;
      if (i > 0) add(give, node(StepEvent::kGive, all[i - 1]));
      if (feed.lane >= 0) add(give, node(StepEvent::kGive, peer_of_.at(StepRef{all[i].rank, false, feed})));
    }
  }

  /// Takes away events that wait for nothing that is left, until none is left, or each of the rest waits for another.
  Status find_circle() {
    std::vector<std::vector<std::int32_t>> waiting(nodes_.size());
    std::vector<std::int32_t> free;
    for (std::int32_t n = 0; n < static_cast<std::int32_t>(nodes_.size()); ++n) {
      Node& event = at(nodes_, n);
      event.num_open = static_cast<std::int32_t>(event.needs.size());
      for (const std::int32_t needed : event.needs) at(waiting, needed).push_back(n);
      if (event.num_open == 0) free.push_back(n);
    }
    std::size_t num_gone = 0;
    while (!free.empty()) {
      const std::int32_t gone = free.back();
      free.pop_back();
      ++num_gone;
      for (const std::int32_t n : at(waiting, gone)) {
        if (--at(nodes_, n).num_open == 0) free.push_back(n);
      }
    }
    if (num_gone == nodes_.size()) return {};
    return {RESHARD_ERR_INTERNAL, "steps wait for one another: " + describe_circle()};
  }

  /// From any event that is left to one that it waits for, until one comes again.
  std::string describe_circle() const {
    const auto is_left = [&](std::int32_t n) { return at(nodes_, n).num_open > 0; };
    std::int32_t n = 0;
    while (!is_left(n)) ++n;
    std::vector<std::int32_t> path;
    while (std::find(path.begin(), path.end(), n) == path.end()) {
      path.push_back(n);
      const std::vector<std::int32_t>& needs = at(nodes_, n).needs;
      n = *std::find_if(needs.begin(), needs.end(), is_left);
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), n));
    std::string text;
    for (std::size_t i = 0; i < std::min<std::size_t>(path.size(), 6); ++i) {
      text += (i == 0 ? "" : "; which waits for: ") + name(at(nodes_, path[i]).key);
    }
    return text;
  }

  std::string name(const NodeKey& key) const {
    const auto& [event, rank, is_out, first, second] = key;
    if (event == StepEvent::kGroup) return fmt::format("rank {}: group at position {}", rank, first);
    if (event == StepEvent::kCopy || event == StepEvent::kPull)
      return fmt::format("rank {}: copies of position {}", rank, first);
    constexpr const char* kWhat[] = {"post", "end", "arrival", "confirmation"};
    return std::string(kWhat[static_cast<int>(event)]) + " of (" + name(StepRef{rank, is_out, {first, second}}) + ")";
  }

  std::span<const Schedule> schedules_;
  std::map<std::tuple<std::int32_t, std::int32_t, bool>, Ends> ways_;  // by sender, receiver, is_relayed
  std::map<StepRef, StepRef> peer_of_;
  std::map<StepRef, std::vector<StepRef>> forwards_;  // of what comes in
  std::map<NodeKey, std::int32_t> index_;
  std::vector<Node> nodes_;
};

}  // namespace

Status check_schedules(std::span<const Schedule> schedules) {
  return Proof(schedules).run();
}

}  // namespace reshard
