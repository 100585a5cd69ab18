// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stream_program.h"

#include <algorithm>
#include <map>
#include <utility>

namespace reshard {
namespace {

/// Points of the actions of one kind: after those of each stage, and of all stages before it.
using StagePoints = std::vector<StreamPoint>;

class ProgramBuilder {
 public:
  ProgramBuilder(const StageSchedule& stages, bool has_scales)
      : stages_(stages),
        schedule_(stages.schedule),
        has_scales_(has_scales),
        local_points_(schedule_.local.size(), -1),
        group_points_(stages.groups.size(), -1) {}

  StreamProgram build() {
    begin_ = list().add(StreamKind::kControl, StreamAction::kBegin, 0, {});
    if (has_scales_) begin_ = add(StreamKind::kControl, StreamAction::kScales, 0, {});
    if (!schedule_.pulled_by.empty()) add(StreamKind::kLend, StreamAction::kLendSource, 0, {});
    begin_copies();
    for (std::size_t stage = 0; stage < stages_.stages.size(); ++stage) {
      add_stage(stage);
      complete_groups(static_cast<std::int32_t>(stage));
    }
    complete_groups(static_cast<std::int32_t>(stages_.stages.size()));
    end();
    find_peers();
    return std::move(program_);
  }

 private:
  StreamCommandList& list() { return program_.list; }

  /// Nothing begins before the run does.
  StreamPoint add(StreamKind stream, StreamAction action, std::int32_t index, std::vector<StreamPoint> after) {
    after.push_back(begin_);
    return list().add(stream, action, index, after);
  }

  static StreamPoint point_of(const StagePoints& points, std::int32_t stage) {
    return stage < 0 ? -1 : at(points, stage);
  }

  std::vector<StreamPoint> points_of(const Waits& waits) const {
    return {point_of(exchanges_, waits.exchange), point_of(unpacks_, waits.unpack), point_of(reads_, waits.read),
            point_of(group_points_, waits.group)};
  }

  /// One action of a stage, if the stage has it; else the point of the stage before stands for it.
  void add_action(bool is_there, StreamKind stream, StreamAction action, std::size_t stage,
                  std::vector<StreamPoint> after, StagePoints* points) {
    const StreamPoint before = points->empty() ? -1 : points->back();
    points->push_back(is_there ? add(stream, action, static_cast<std::int32_t>(stage), std::move(after)) : before);
  }

  void add_stage(std::size_t index) {
    const Stage& stage = stages_.stages[index];
    const bool has_exchange = !stages_.sends(index).empty() || !stages_.receives(index).empty();
    add_action(!stages_.packs(index).empty(), StreamKind::kPack, StreamAction::kPack, index, points_of(stage.pack),
               &packs_);
    add_action(!stages_.lends(index).empty(), StreamKind::kLend, StreamAction::kLend, index, points_of(stage.lend),
               &lends_);
    std::vector<StreamPoint> after = points_of(stage.exchange);
    after.push_back(packs_.back());
    add_action(has_exchange, StreamKind::kExchange, StreamAction::kExchange, index, std::move(after), &exchanges_);
    add_action(!stages_.reads(index).empty(), StreamKind::kRead, StreamAction::kRead, index, points_of(stage.read),
               &reads_);
    after = points_of(stage.unpack);
    after.push_back(exchanges_.back());
    add_action(!stages_.unpacks(index).empty(), StreamKind::kUnpack, StreamAction::kUnpack, index, std::move(after),
               &unpacks_);
  }

  /// Whether bytes of a group may be written, as far as commands were added.
  bool is_open(std::int32_t position) const { return position < num_groups_ + schedule_.num_open; }

  std::vector<StreamPoint> opening_of(std::int32_t position) const {
    return {point_of(group_points_, position - schedule_.num_open)};
  }

  /// Copies that need no message, of all groups that are open.
  void begin_copies() {
    for (; num_local_ < schedule_.local.size() && is_open(schedule_.local[num_local_].position); ++num_local_) {
      local_points_[num_local_] = add(StreamKind::kLocal, StreamAction::kLocal, static_cast<std::int32_t>(num_local_),
                                      opening_of(schedule_.local[num_local_].position));
    }
    const std::vector<GroupStep>& pulls = schedule_.pulls;
    while (num_pulled_ < pulls.size() && is_open(pulls[num_pulled_].position)) {
      const std::int32_t position = pulls[num_pulled_].position;
      const auto begin = static_cast<std::int32_t>(num_pulled_);
      while (num_pulled_ < pulls.size() && pulls[num_pulled_].position == position) ++num_pulled_;
      const auto index = static_cast<std::int32_t>(program_.pulls.size());
      program_.pulls.push_back({begin, static_cast<std::int32_t>(num_pulled_)});
      pull_points_.push_back(add(StreamKind::kPull, StreamAction::kPull, index, opening_of(position)));
    }
  }

  /// The pull that has the last of Schedule::pulls before `end`.
  StreamPoint point_of_pulls(std::int32_t end) const {
    for (std::size_t i = program_.pulls.size(); i > 0; --i) {
      if (program_.pulls[i - 1].begin < end) return pull_points_[i - 1];
    }
    return -1;
  }

  /// The groups whose last actions are of stages up to this one.
  void complete_groups(std::int32_t stage) {
    while (num_groups_ < static_cast<std::int32_t>(stages_.groups.size())) {
      const GroupNeeds& needs = at(stages_.groups, num_groups_);
      if (std::max({needs.pack, needs.exchange, needs.unpack, needs.read, needs.lend}) > stage) return;
      complete_group(needs);
      begin_copies();
    }
  }

  void complete_group(const GroupNeeds& needs) {
    std::vector<StreamPoint> after = {point_of(exchanges_, needs.exchange), point_of(unpacks_, needs.unpack),
                                      point_of(reads_, needs.read), point_of_pulls(needs.pulls_end),
                                      needs.local_end == 0 ? -1 : at(local_points_, needs.local_end - 1)};
    if (converts(num_groups_)) after = {convert(after)};
    after.insert(after.end(), {point_of(packs_, needs.pack), point_of(lends_, needs.lend)});
    const std::int32_t awaited = program_.awaited.empty() ? -1 : program_.awaited.back();
    if (needs.lend > awaited) await_readers(needs.lend, after);
    const StreamPoint point = add(StreamKind::kControl, StreamAction::kGroup, num_groups_, std::move(after));
    at(group_points_, num_groups_) = point;
    program_.group_events.push_back(list().event_at(point));
    ++num_groups_;
  }

  /// Whether the group at this position, the next to be complete, is converted once it landed.
  bool converts(std::int32_t position) const {
    return num_converted_ < schedule_.finishes.size() && schedule_.finishes[num_converted_] == position;
  }

  /// Peers may still be given what landed, or read it: a conversion leaves it as it is.
  StreamPoint convert(const std::vector<StreamPoint>& landed) {
    return add(StreamKind::kConvert, StreamAction::kConvert, static_cast<std::int32_t>(num_converted_++), landed);
  }

  void await_readers(std::int32_t stage, std::vector<StreamPoint> after) {
    const auto index = static_cast<std::int32_t>(program_.awaited.size());
    program_.awaited.push_back(stage);
    add(StreamKind::kControl, StreamAction::kAwaitReaders, index, std::move(after));
  }

  void end() {
    std::vector<StreamPoint> after;
    for (std::size_t i = 0; i < kNumStreams; ++i) after.push_back(list().last_of(static_cast<StreamKind>(i)));
    const bool lends = !stages_.all_lends.empty() || !schedule_.pulled_by.empty();
    if (lends) await_readers(static_cast<std::int32_t>(stages_.stages.size()), after);
    const StreamPoint point = add(StreamKind::kControl, StreamAction::kEnd, 0, std::move(after));
    program_.end_event = list().event_at(point);
  }

  /// The last point of each kind at which something is done with a peer.
  void find_peers() {
    std::map<std::int32_t, std::array<StreamPoint, 3>> points;
    std::map<std::int32_t, bool> readers;
    const auto note = [&](std::int32_t rank, std::size_t kind, StreamPoint point) {
      points.try_emplace(rank, std::array<StreamPoint, 3>{-1, -1, -1}).first->second[kind] = point;
    };
    for (std::size_t stage = 0; stage < stages_.stages.size(); ++stage) {
      for (const StepId id : stages_.sends(stage)) note(stages_.out(id).peer, 0, exchanges_[stage]);
      for (const StepId id : stages_.receives(stage)) note(stages_.in(id).peer, 0, exchanges_[stage]);
      for (const StepId id : stages_.reads(stage)) note(stages_.in(id).peer, 1, reads_[stage]);
      for (const StepId id : stages_.lends(stage)) readers[stages_.out(id).peer] = true;
    }
    for (std::size_t i = 0; i < program_.pulls.size(); ++i) {
      for (std::int32_t p = program_.pulls[i].begin; p < program_.pulls[i].end; ++p) {
        note(at(schedule_.pulls, p).peer, 2, pull_points_[i]);
      }
    }
    for (const std::int32_t rank : schedule_.pulled_by) readers[rank] = true;
    for (const auto& [rank, is_reader] : readers) points.try_emplace(rank, std::array<StreamPoint, 3>{-1, -1, -1});
    for (const auto& [rank, last] : points) {
      StreamProgram::Peer& peer = program_.peers.emplace_back();
      peer.rank = rank;
      peer.is_reader = readers.count(rank) != 0;
      for (const StreamPoint point : last) {
        if (point >= 0) peer.events.push_back(list().event_at(point));
      }
    }
  }

  const StageSchedule& stages_;
  const Schedule& schedule_;
  const bool has_scales_;
  StreamProgram program_;
  StreamPoint begin_ = -1;
  StagePoints packs_;
  StagePoints exchanges_;
  StagePoints unpacks_;
  StagePoints reads_;
  StagePoints lends_;
  std::vector<StreamPoint> local_points_;  // by index in Schedule::local
  std::vector<StreamPoint> pull_points_;   // by index in StreamProgram::pulls
  StagePoints group_points_;               // by position
  std::size_t num_local_ = 0;              // of Schedule::local that are begun
  std::size_t num_pulled_ = 0;             // of Schedule::pulls
  std::size_t num_converted_ = 0;          // of Schedule::finishes
  std::int32_t num_groups_ = 0;            // that are complete
};

}  // namespace

StreamProgram program_of(const StageSchedule& stages, bool has_scales) {
  return ProgramBuilder(stages, has_scales).build();
}

}  // namespace reshard
