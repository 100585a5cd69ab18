// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/exec/control.h"
#include "src/exec/group_counter.h"
#include "src/exec/messages.h"
#include "src/exec/pulls.h"
#include "src/exec/quantise.h"
#include "src/transport/messenger.h"

namespace reshard {

/// What a flight shares with its peers beyond messages.
struct Wiring {
  std::int64_t binding = 0;             ///< number of the binding; see tags.h
  Control* control = nullptr;           ///< outlives the flight
  void* word = nullptr;                 ///< of this rank's RunWord; null when nobody reads its memory
  std::map<std::int32_t, void*> words;  ///< of the ranks whose memory this one reads
};

/// A bound schedule and the state of its current run. Sized once; a run allocates nothing.
class Flight {
 public:
  Flight(BoundSchedule bound, Wiring wiring, Messenger* messenger);
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  const BoundSchedule bound;

  /// Resets the state and posts what can be posted at once: nothing that touches the caller's memory before the work
  /// that he has queued on `stream` is done. @pre is_idle()
  Status begin(std::int64_t run);

  /// Moves everything a little; *moved says whether anything did. RESHARD_ERR_ABANDONED when a peer that is still
  /// needed gave the run up.
  Status step(bool* moved);

  /// Takes in which ranks have left the transport: Messenger::departed(). To be called now and then while nothing
  /// moves.
  void heed_departures(std::span<const std::int32_t> departed);

  bool is_complete() const;
  /// None before the run is open, not even one without a byte: the caller's own work on it may not be done.
  std::int32_t num_groups_complete() const { return is_open_ ? groups_.num_complete() : 0; }
  /// Whether a group, by its index in Plan::groups, and all groups before it in this rank's order are complete.
  bool is_group_complete(std::int32_t group) const { return num_groups_complete() > bound.schedule.position_of(group); }

  /// See GroupCounter. hold() is called once, before the first run.
  void hold_groups() { groups_.hold(); }
  void release_groups(std::int32_t count) { groups_.release(count); }

  /// What is still missing, for the message of a deadline.
  std::string missing() const;

  /// Gives the run up: no reader takes the source for good from here on, the peers are told, and all messages are taken
  /// back, or is_idle() is false: then this object must live until it is true, or the transport is gone.
  void abandon();
  bool is_idle() const { return messages_.is_idle() && bound.copier->drain(Deadline(0)); }

  /// Throws away what was sent to this rank in a run that it gave up.
  void discard(std::int64_t run) const { messages_.discard(run); }

 private:
  /// What this rank and a peer are to each other besides messages.
  struct Bond {
    bool is_reader = false;  // it reads groups out of this rank's source
    bool is_read = false;    // and has said that it has
    bool is_lost = false;    // in lost_
  };

  Status open(bool* moved);
  Status hear(bool* moved);
  Status work(bool* moved);
  void heed(std::size_t peer);
  Status check_losses(std::size_t num_known);
  bool needs(std::size_t peer, Control::Loss loss) const;
  Status step_local(bool* moved);
  bool is_unread(std::size_t peer) const;

  Wiring wiring_;
  Messenger* messenger_;
  GroupCounter groups_;
  Confirmations confirmations_;
  Messages messages_;
  Pulls pulls_;
  ConversionRun conversions_;
  std::int64_t run_ = 0;
  bool is_open_ = false;  // the caller's memory may be touched: Copier::is_open()
  std::size_t next_local_ = 0;
  bool is_copying_local_ = false;  // next_local_; local_ is its job
  CopyJob local_;
  std::vector<Bond> bonds_;           // by peer
  std::size_t num_unread_ = 0;        // readers that have not said that they have read
  std::vector<std::size_t> changed_;  // peers of which something was heard in this step
  std::vector<std::size_t> lost_;     // peers that are lost, and that this rank may still need

  std::size_t num_heeded_ = 0;        // of the ranks that have left the transport
  std::vector<std::size_t> parting_;  // peers among them whose last messages may still be under way
  std::optional<std::chrono::steady_clock::time_point> quiet_since_;  // nothing has moved since
};

}  // namespace reshard
