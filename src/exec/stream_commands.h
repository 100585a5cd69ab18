// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A list of commands for streams, made once and given to the streams again in every run. Who writes it says what a
// command must come after; the list holds the fewest events and waits that make it so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace reshard {

/// The streams of a run. Each is a queue of its own, so that what is of different kinds overlaps.
enum class StreamKind : std::uint8_t {
  kControl,  ///< the beginning, the groups and the end
  kPack,
  kExchange,
  kUnpack,
  kRead,     ///< windows out of peers' memory
  kLend,     ///< what peers are told that they may read
  kLocal,    ///< copies within the rank
  kPull,     ///< groups out of peers' sources
  kConvert,  ///< groups that landed, to what the caller wants
};
inline constexpr std::size_t kNumStreams = 9;

/// What a command is; `index` says which.
enum class StreamAction : std::uint8_t {
  kBegin,         ///< the run's number
  kScales,        ///< of this rank's sources, which are computed
  kWait,          ///< for the event `index`
  kLendSource,    ///< peers may read groups out of this rank's source
  kPack,          ///< of a stage
  kExchange,      ///< of a stage
  kUnpack,        ///< of a stage
  kLend,          ///< of a stage
  kRead,          ///< of a stage
  kLocal,         ///< of Schedule::local
  kPull,          ///< of the list of pulls (StreamProgram::pulls)
  kConvert,       ///< of Schedule::finishes
  kAwaitReaders,  ///< peers have read what was lent so far (StreamProgram::awaited)
  kGroup,         ///< the group at a position is complete
  kEnd,
};

struct StreamCommand {
  StreamKind stream = StreamKind::kControl;
  StreamAction action = StreamAction::kBegin;
  std::int32_t index = 0;
  std::int32_t event = -1;  ///< recorded behind it; -1: none
};

/// A moment in a run: a command is done, and with it all before it in its stream. Index in the list; -1: the beginning
/// of time.
using StreamPoint = std::int32_t;

class StreamCommandList {
 public:
  /// Appends a command that begins only when all of `after` are done, and its stream's command before it.
  /// @return the point at which it is done
  StreamPoint add(StreamKind stream, StreamAction action, std::int32_t index, std::span<const StreamPoint> after);

  /// The event that is recorded at a point, which it makes if there is none yet.
  std::int32_t event_at(StreamPoint point);

  const std::vector<StreamCommand>& commands() const { return commands_; }
  std::int32_t num_events() const { return num_events_; }
  bool uses(StreamKind stream) const { return last_[static_cast<std::size_t>(stream)] >= 0; }
  StreamPoint last_of(StreamKind stream) const { return last_[static_cast<std::size_t>(stream)]; }

 private:
  /// By stream, the last command that is known to be done at some point. Since commands of a stream are done in order,
  /// that is all there is to know.
  using Known = std::array<StreamPoint, kNumStreams>;
  static constexpr Known nothing() {
    Known known{};
    known.fill(-1);
    return known;
  }
  bool is_known(const Known& known, StreamPoint point) const;
  static void join(Known* known, const Known& other);
  void wait(StreamKind stream, StreamPoint point);
  StreamPoint append(StreamCommand command);

  std::vector<StreamCommand> commands_;
  std::vector<Known> known_;  // by command: when it is done
  Known last_ = nothing();
  std::int32_t num_events_ = 0;
};

}  // namespace reshard
