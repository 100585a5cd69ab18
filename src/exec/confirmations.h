// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/exec/control.h"
#include "src/exec/group_counter.h"
#include "src/exec/program.h"

namespace reshard {

/// Which windows of a run are given for good.
///
/// A rank that gives a run up may reuse its memory at once, while others still read it: they get bytes of two runs, and
/// nothing in the bytes says so. So a receiver calls a window complete only when it is unpacked and its sender has
/// confirmed it. A sender confirms a window when
///  - its send has ended while the run was not given up: the memory held the run's bytes until they were read, and
///  - it has passed the window on and the window is confirmed to it, too, or it is the window's source.
/// By induction along the route every rank that the bytes came through, the source included, has seen its send end
/// within the run. Whoever gives a run up confirms nothing any more.
///
/// Windows are confirmed by number, in the plan's one order, per peer and lane: the first n are confirmed. The hop that
/// brings a window comes before the hop that passes it on, hence waiting for confirmations goes backwards in that order
/// and never in a circle. (Per group or per run it would go in one: A relays for B, and B for A.)
class Confirmations {
 public:
  /// All three must outlive this object; control's peers are those of the program's messages, at least.
  Confirmations(const Program& program, GroupCounter* groups, Control* control);

  void begin();
  void unpacked(MessageId receive);
  void sent(MessageId send);

  /// Adopts what the peer has confirmed since.
  void adopt(std::size_t peer);
  /// Confirms to the peers what can be: only windows whose send has ended, or that were confirmed to this rank, since
  /// the last call are looked at.
  void confirm();

  bool awaits(std::size_t peer) const;  ///< a confirmation of the peer
  bool owes(std::size_t peer) const;    ///< has not confirmed everything to the peer
  bool is_complete() const { return num_open_ == 0; }
  std::vector<std::int32_t> senders() const;  ///< ranks that send windows to this one

 private:
  /// The windows of one lane between this rank and a peer, in order. Lanes are those of both ends: relayed windows, and
  /// others, also where a rank keeps both kinds in one lane of its own.
  struct Stream {
    std::int32_t lane = 0;             // of this rank's program
    std::vector<std::uint32_t> steps;  // indices in it
    std::size_t num_confirmed = 0;     // the first ones
    bool is_stale = false;             // of windows that this rank gives: in stale_
    bool has_open() const { return num_confirmed < steps.size(); }
  };
  struct Peer {
    std::array<Stream, 2> out;
    std::array<Stream, 2> in;
  };
  struct StreamId {
    std::size_t peer = 0;
    std::size_t lane = 0;  // of both ends
  };
  using Flags = std::array<std::vector<bool>, 2>;  // by lane and index of a step

  void adopt(Stream* stream, std::int64_t num_confirmed);
  void confirm(StreamId id);
  void look_at_send(MessageId send);
  bool is_confirmed(MessageId receive) const;
  void complete(const MessageStep& step);

  const Program& program_;
  GroupCounter* groups_;
  Control* control_;
  std::vector<Peer> peers_;  // as control's
  Flags is_sent_;
  Flags is_unpacked_;
  std::array<std::vector<std::uint32_t>, 2> number_;             // of receives: in their streams
  std::array<std::vector<std::vector<MessageId>>, 2> forwards_;  // of receives: the sends that pass them on
  std::int64_t num_windows_ = 0;
  std::int64_t num_open_ = 0;    // windows that are not confirmed, of both directions
  std::vector<StreamId> stale_;  // whose first open window may be confirmed by now
};

}  // namespace reshard
