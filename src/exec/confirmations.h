// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/exec/control.h"
#include "src/exec/group_counter.h"
#include "src/exec/schedule.h"

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
/// A window that the peer reads in place is confirmed before it is read: as soon as it is here, and confirmed to this
/// rank. That is the signal for the reader, who then copies and looks at this rank's RunWord: if the run still stands
/// there after the copy, the memory held what was confirmed. The reader says how many windows it has read; until then
/// the destination that they lie in is not complete here.
///
/// Windows are confirmed by number, in the plan's one order, per peer and kind: the first n are confirmed. The hop that
/// brings a window comes before the hop that passes it on, hence waiting for confirmations goes backwards in that order
/// and never in a circle. (Per group or per run it would go in one: A relays for B, and B for A.)
class Confirmations {
 public:
  /// All three must outlive this object; control's peers are those of the schedule, at least.
  Confirmations(const Schedule& schedule, GroupCounter* groups, Control* control);

  void begin();
  void open();                    ///< the source may be read: what is lent of it is there
  void arrived(StepId incoming);  ///< unpacked, or read
  void sent(StepId outgoing);     ///< a send has ended

  /// Adopts what the peer has confirmed, and read, since.
  void adopt(std::size_t peer);
  /// Confirms to the peers what can be: only windows whose send has ended, or that were confirmed to this rank, since
  /// the last call are looked at.
  void confirm();

  bool has_arrived(StepId incoming) const { return at(has_arrived_, incoming.lane)[incoming.index]; }
  bool is_confirmed(StepId incoming) const;

  bool awaits(std::size_t peer) const;    ///< a confirmation of the peer
  bool owes(std::size_t peer) const;      ///< has not confirmed everything to the peer
  bool lends_to(std::size_t peer) const;  ///< the peer has not read everything that it reads in place
  bool is_complete() const { return num_open_ == 0; }
  std::vector<std::int32_t> senders() const;  ///< ranks that give windows to this one

 private:
  /// The windows of one kind between this rank and a peer, in order. Kinds are those of both ends, relayed windows and
  /// others, whatever lanes a rank keeps them in: the peer may have folded its lanes into one, and both must count the
  /// same windows.
  struct Stream {
    std::vector<StepId> steps;
    std::size_t num_confirmed = 0;    // the first ones
    bool is_stale = false;            // of windows that this rank gives: in stale_
    std::vector<std::uint32_t> lent;  // those that the peer reads in place: indices in kMappedLane
    std::size_t num_read = 0;         // the first ones
    bool has_open() const { return num_confirmed < steps.size(); }
  };
  struct Peer {
    std::array<Stream, 2> out;
    std::array<Stream, 2> in;
  };
  struct StreamId {
    std::size_t peer = 0;
    std::size_t kind = 0;
  };
  using Flags = std::array<std::vector<bool>, 3>;  // by lane and index of a step

  void add_steps(const Lanes& lanes, bool is_out);
  void adopt(Stream* stream, std::int64_t num_confirmed);
  void adopt_read(Stream* stream, std::int64_t num_read);
  void confirm(StreamId id);
  void is_ready(StepId outgoing);
  void look_at(StepId outgoing);
  void complete(const WindowStep& step);
  const WindowStep& incoming(StepId id) const { return at(schedule_.in, id.lane).steps[id.index]; }
  const WindowStep& outgoing(StepId id) const { return at(schedule_.out, id.lane).steps[id.index]; }

  const Schedule& schedule_;
  GroupCounter* groups_;
  Control* control_;
  std::vector<Peer> peers_;  // as control's
  Flags is_given_;           // of what goes out: sent, or here to be read
  Flags has_arrived_;
  std::array<std::vector<std::uint32_t>, 3> number_;          // of what comes in: in their streams
  std::array<std::vector<std::vector<StepId>>, 3> forwards_;  // of what comes in: what passes it on
  std::int64_t num_windows_ = 0;
  std::int64_t num_open_ = 0;    // windows that are not confirmed, of both directions, and those lent and not read
  std::vector<StreamId> stale_;  // whose first open window may be confirmed by now
};

}  // namespace reshard
