// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a program for streams must keep, worked out from the stages alone: which command has to be over before which
// begins. Programs of random plans keep all of it, and each of their waits is needed: left out, one of these is lost.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>
#include <utility>

#include "tests/unit/exec/random_stages.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::RandomStages;

using Place = std::int32_t;  ///< of a command in the list
using Pairs = std::set<std::pair<Place, Place>>;

/// Which commands are over when another begins, by the streams they stand in and the events between these; the wait at
/// `left_out` is not there.
class Order {
 public:
  explicit Order(const std::vector<StreamCommand>& commands, Place left_out = -1) : before_(commands.size()) {
    std::map<StreamKind, Place> last;
    std::map<std::int32_t, Place> recorded;  // by event
    for (Place place = 0; place < std::ssize(commands); ++place) {
      const StreamCommand& command = at(commands, place);
      at(before_, place).resize(commands.size());
      if (last.count(command.stream) != 0) add(place, last[command.stream]);
      last[command.stream] = place;
      if (command.action == StreamAction::kWait && place != left_out) {
        if (recorded.count(command.index) == 0) waits_for_nothing_ = true;
        add(place, recorded[command.index]);
      }
      if (command.event >= 0) recorded[command.event] = place;
    }
  }
  bool is_before(Place first, Place second) const { return at(at(before_, second), first); }
  /// An event that is recorded later, or never, holds up nobody.
  bool waits_for_nothing() const { return waits_for_nothing_; }

 private:
  void add(Place place, Place first) {
    at(at(before_, place), first) = true;
    for (Place other = 0; other < first; ++other) {
      if (is_before(other, first)) at(at(before_, place), other) = true;
    }
  }
  std::vector<std::vector<bool>> before_;
  bool waits_for_nothing_ = false;
};

/// The order that a program owes to its stages.
class Debts {
 public:
  Debts(const StageSchedule& stages, const StreamProgram& program)
      : stages_(stages), commands_(program.list.commands()) {
    for (Place place = 0; place < std::ssize(commands_); ++place) {
      const StreamCommand& command = at(commands_, place);
      if (command.action != StreamAction::kWait) places_[{command.action, command.index}] = place;
    }
    add_begin_and_end();
    for (std::size_t stage = 0; stage < stages_.stages.size(); ++stage) add_stage(static_cast<std::int32_t>(stage));
    for (std::int32_t position = 0; position < std::ssize(stages_.groups); ++position) add_group(position, program);
    add_copies(program);
  }
  const Pairs& pairs() const { return pairs_; }

 private:
  void owe(StreamAction first, std::int32_t first_index, StreamAction second, std::int32_t second_index) {
    const auto earlier = places_.find({first, first_index});
    const auto later = places_.find({second, second_index});
    if (earlier != places_.end() && later != places_.end()) pairs_.emplace(earlier->second, later->second);
  }
  /// All actions of a kind up to a stage, or groups up to a position.
  void owe_up_to(StreamAction first, std::int32_t last, StreamAction second, std::int32_t second_index) {
    for (std::int32_t i = 0; i <= last; ++i) owe(first, i, second, second_index);
  }

  void add_begin_and_end() {
    for (const auto& [what, place] : places_) {
      if (what.first == StreamAction::kBegin) continue;
      owe(StreamAction::kBegin, 0, what.first, what.second);
      if (what.first != StreamAction::kScales) owe(StreamAction::kScales, 0, what.first, what.second);
      if (what.first != StreamAction::kEnd) owe(what.first, what.second, StreamAction::kEnd, 0);
    }
  }

  void add_waits(const Waits& waits, StreamAction action, std::int32_t stage) {
    owe_up_to(StreamAction::kExchange, waits.exchange, action, stage);
    owe_up_to(StreamAction::kUnpack, waits.unpack, action, stage);
    owe_up_to(StreamAction::kRead, waits.read, action, stage);
    owe_up_to(StreamAction::kGroup, waits.group, action, stage);
    owe_up_to(action, stage - 1, action, stage);
  }

  void add_stage(std::int32_t index) {
    const Stage& stage = at(stages_.stages, index);
    add_waits(stage.pack, StreamAction::kPack, index);
    add_waits(stage.exchange, StreamAction::kExchange, index);
    add_waits(stage.unpack, StreamAction::kUnpack, index);
    add_waits(stage.read, StreamAction::kRead, index);
    add_waits(stage.lend, StreamAction::kLend, index);
    owe(StreamAction::kPack, index, StreamAction::kExchange, index);
    owe(StreamAction::kExchange, index, StreamAction::kUnpack, index);
  }

  /// What brings a group here is over before it is converted, and all of it before it is complete.
  void add_group(std::int32_t position, const StreamProgram& program) {
    const GroupNeeds& needs = at(stages_.groups, position);
    std::vector<std::pair<StreamAction, std::int32_t>> enders = {{StreamAction::kGroup, position}};
    for (std::int32_t i = 0; i < std::ssize(stages_.schedule.finishes); ++i) {
      if (at(stages_.schedule.finishes, i) == position) enders.emplace_back(StreamAction::kConvert, i);
    }
    for (const auto& [action, index] : enders) {
      owe_up_to(StreamAction::kExchange, needs.exchange, action, index);
      owe_up_to(StreamAction::kUnpack, needs.unpack, action, index);
      owe_up_to(StreamAction::kRead, needs.read, action, index);
      owe_up_to(StreamAction::kLocal, needs.local_end - 1, action, index);
      for (std::int32_t pull = 0; pull < std::ssize(program.pulls); ++pull) {
        if (at(program.pulls, pull).begin < needs.pulls_end) owe(StreamAction::kPull, pull, action, index);
      }
      if (action == StreamAction::kConvert) owe(action, index, StreamAction::kGroup, position);
    }
    owe_up_to(StreamAction::kPack, needs.pack, StreamAction::kGroup, position);
    owe_up_to(StreamAction::kLend, needs.lend, StreamAction::kGroup, position);
    owe_up_to(StreamAction::kGroup, position - 1, StreamAction::kGroup, position);
    for (std::int32_t i = 0; needs.lend >= 0 && i < std::ssize(program.awaited); ++i) {
      owe(StreamAction::kAwaitReaders, i, StreamAction::kGroup, position);
      if (at(program.awaited, i) >= needs.lend) break;
    }
  }

  /// Copies begin when their group may be open.
  void add_copies(const StreamProgram& program) {
    const Schedule& schedule = stages_.schedule;
    for (std::int32_t i = 0; i < std::ssize(schedule.local); ++i) {
      owe_up_to(StreamAction::kGroup, at(schedule.local, i).position - schedule.num_open, StreamAction::kLocal, i);
    }
    for (std::int32_t i = 0; i < std::ssize(program.pulls); ++i) {
      const std::int32_t position = at(schedule.pulls, at(program.pulls, i).begin).position;
      owe_up_to(StreamAction::kGroup, position - schedule.num_open, StreamAction::kPull, i);
    }
  }

  const StageSchedule& stages_;
  const std::vector<StreamCommand>& commands_;
  std::map<std::pair<StreamAction, std::int32_t>, Place> places_;
  Pairs pairs_;
};

std::string first_lost(const Pairs& pairs, const Order& order) {
  for (const auto& [first, second] : pairs) {
    if (!order.is_before(first, second)) return fmt::format("command {} need not be over for {}", first, second);
  }
  return order.waits_for_nothing() ? "a wait for an event that is not recorded before it" : "";
}

/// Whether all that the stages have to do, and nothing twice, is in the list.
std::string count_commands(const StageSchedule& stages, const StreamProgram& program) {
  std::map<StreamAction, std::int64_t> found;
  for (const StreamCommand& command : program.list.commands()) ++found[command.action];
  std::map<StreamAction, std::int64_t> wanted;
  for (std::size_t s = 0; s < stages.stages.size(); ++s) {
    wanted[StreamAction::kPack] += stages.packs(s).empty() ? 0 : 1;
    wanted[StreamAction::kExchange] += stages.sends(s).empty() && stages.receives(s).empty() ? 0 : 1;
    wanted[StreamAction::kUnpack] += stages.unpacks(s).empty() ? 0 : 1;
    wanted[StreamAction::kRead] += stages.reads(s).empty() ? 0 : 1;
    wanted[StreamAction::kLend] += stages.lends(s).empty() ? 0 : 1;
  }
  wanted[StreamAction::kLocal] = std::ssize(stages.schedule.local);
  wanted[StreamAction::kPull] = std::ssize(program.pulls);
  wanted[StreamAction::kConvert] = std::ssize(stages.schedule.finishes);
  wanted[StreamAction::kGroup] = std::ssize(stages.groups);
  wanted[StreamAction::kLendSource] = stages.schedule.pulled_by.empty() ? 0 : 1;
  wanted[StreamAction::kBegin] = wanted[StreamAction::kEnd] = 1;
  for (const auto& [action, count] : wanted) {
    if (found[action] != count) {
      return fmt::format("{} commands of kind {}, not {}", found[action], static_cast<int>(action), count);
    }
  }
  return {};
}

/// A single queue would do: a wait for readers stands behind the words that these wait for.
std::string check_words(const StreamProgram& program) {
  std::int32_t last_lend = -1;
  bool is_source_lent = false;
  for (const StreamCommand& command : program.list.commands()) {
    if (command.action == StreamAction::kLend) last_lend = command.index;
    if (command.action == StreamAction::kLendSource) is_source_lent = true;
    if (command.action == StreamAction::kLend || command.action != StreamAction::kAwaitReaders) continue;
    for (const StreamCommand& other : program.list.commands()) {
      const bool is_awaited = other.action == StreamAction::kLend && other.index <= at(program.awaited, command.index);
      if (is_awaited && other.index > last_lend) return "readers are awaited before they are told";
      if (other.action == StreamAction::kLendSource && !is_source_lent) return "readers of the source wait for ever";
    }
  }
  return {};
}

/// When all events of a peer are past, everything that is done with it is.
std::string check_peers(const StageSchedule& stages, const StreamProgram& program, const Order& order) {
  std::set<std::pair<std::int32_t, Place>> work;  // rank, and a command that concerns it
  std::set<std::int32_t> readers(stages.schedule.pulled_by.begin(), stages.schedule.pulled_by.end());
  const std::vector<StreamCommand>& commands = program.list.commands();
  std::map<std::int32_t, Place> recorded;
  for (Place place = 0; place < std::ssize(commands); ++place) {
    const StreamCommand& command = at(commands, place);
    const auto index = static_cast<std::size_t>(command.index);
    if (command.event >= 0) recorded[command.event] = place;
    if (command.action == StreamAction::kExchange) {
      for (const StepId id : stages.sends(index)) work.emplace(stages.out(id).peer, place);
      for (const StepId id : stages.receives(index)) work.emplace(stages.in(id).peer, place);
    } else if (command.action == StreamAction::kRead) {
      for (const StepId id : stages.reads(index)) work.emplace(stages.in(id).peer, place);
    } else if (command.action == StreamAction::kLend) {
      for (const StepId id : stages.lends(index)) readers.insert(stages.out(id).peer);
    } else if (command.action == StreamAction::kPull) {
      const StreamProgram::Pull& pull = program.pulls[index];
      for (std::int32_t i = pull.begin; i < pull.end; ++i) work.emplace(at(stages.schedule.pulls, i).peer, place);
    }
  }
  std::set<std::int32_t> wanted = readers;
  std::set<std::int32_t> known;
  for (const auto& [rank, place] : work) wanted.insert(rank);
  for (const StreamProgram::Peer& peer : program.peers) {
    known.insert(peer.rank);
    if (peer.is_reader != (readers.count(peer.rank) != 0))
      return fmt::format("rank {} is no reader, or one", peer.rank);
    for (const auto& [rank, place] : work) {
      bool is_covered = rank != peer.rank;
      for (const std::int32_t event : peer.events) {
        is_covered = is_covered || recorded.at(event) == place || order.is_before(place, recorded.at(event));
      }
      if (!is_covered) return fmt::format("command {} with rank {} is behind all of its events", place, rank);
    }
  }
  return known == wanted ? "" : "peers are missing, or too many";
}

/// Stream, action, index and event of each command, by number.
std::string text_of(const std::vector<StreamCommand>& commands) {
  std::string text;
  for (std::size_t place = 0; place < commands.size(); ++place) {
    const StreamCommand& command = commands[place];
    text += fmt::format("{}: stream {} action {} of {}, event {}\n", place, static_cast<int>(command.stream),
                        static_cast<int>(command.action), command.index, command.event);
  }
  return text;
}

/// What is wrong with the program of one rank; counts its waits.
std::string check_program(const StageSchedule& stages, const StreamProgram& program, std::int64_t* num_waits) {
  const std::vector<StreamCommand>& commands = program.list.commands();
  const Pairs pairs = Debts(stages, program).pairs();
  const Order order(commands);
  for (const std::string& wrong : {count_commands(stages, program), first_lost(pairs, order), check_words(program),
                                   check_peers(stages, program, order)}) {
    if (!wrong.empty()) return wrong;
  }
  for (Place place = 0; place < std::ssize(commands); ++place) {
    if (at(commands, place).action != StreamAction::kWait) continue;
    ++*num_waits;
    if (first_lost(pairs, Order(commands, place)).empty()) {
      return fmt::format("rank {}: nothing needs the wait at {}\n{}", stages.schedule.rank, place, text_of(commands));
    }
  }
  return {};
}

TEST(StreamProgramTest, ProgramsKeepTheOrderOfTheirStagesWithNoWaitTooMany) {
  std::int64_t num_waits = 0;
  std::int64_t num_converted = 0;
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const RandomStages random(&choices);
    for (const RandomStages::Rank& rank : random.ranks()) {
      num_converted += std::ssize(rank.stages.schedule.finishes);
      RC_ASSERT(check_program(rank.stages, rank.program, &num_waits) == "");
    }
  }));
  EXPECT_GT(num_waits, 0);
  EXPECT_GT(num_converted, 0);
}

/// The end of a run, and a group, are known by events of their own places.
TEST(StreamProgramTest, EventsStandBehindWhatTheyAreOf) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const RandomStages random(&choices);
    for (const RandomStages::Rank& rank : random.ranks()) {
      std::map<std::int32_t, StreamCommand> of_event;
      for (const StreamCommand& command : rank.program.list.commands()) {
        if (command.event >= 0) RC_ASSERT(of_event.emplace(command.event, command).second);
      }
      RC_ASSERT(std::ssize(of_event) == rank.program.list.num_events());
      RC_ASSERT((of_event.at(rank.program.end_event).action == StreamAction::kEnd));
      RC_ASSERT(rank.program.group_events.size() == rank.stages.groups.size());
      for (std::int32_t position = 0; position < std::ssize(rank.program.group_events); ++position) {
        const StreamCommand& command = of_event.at(at(rank.program.group_events, position));
        RC_ASSERT((command.action == StreamAction::kGroup));
        RC_ASSERT(command.index == position);
      }
    }
  }));
}

}  // namespace
}  // namespace reshard
