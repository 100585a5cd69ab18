// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/exec/control.h"
#include "src/exec/group_counter.h"
#include "src/exec/messages.h"
#include "src/exec/program.h"
#include "src/transport/messenger.h"

namespace reshard {

/// The run in which a rank's source may be read: a word in memory that the readers have mapped, too. A reader copies
/// and then looks at the word; the rank clears the word before it gives the run up and lets the caller have the memory.
/// So a reader that still finds its run there has copied what the run's source held. (A sequence lock with one writer:
/// set() keeps later stores of the caller behind that of the word, is() keeps the word's load behind the copy's. Both
/// change the word, if only by nothing: that orders what comes before them, too, as a fence would, and unlike a fence
/// it is seen by the thread sanitizer.)
class RunWord {
 public:
  explicit RunWord(void* memory) : word_(static_cast<std::int64_t*>(memory)) {}
  void set(std::int64_t run) const { std::atomic_ref(*word_).exchange(run, std::memory_order_seq_cst); }
  bool is(std::int64_t run) const { return std::atomic_ref(*word_).fetch_add(0, std::memory_order_acq_rel) == run; }

 private:
  std::int64_t* word_;
};

/// What a flight shares with its peers beyond messages.
struct Wiring {
  std::int64_t binding = 0;             ///< number of the binding; see tags.h
  Control* control = nullptr;           ///< outlives the flight
  void* word = nullptr;                 ///< of this rank's RunWord; null when nobody reads its source
  std::map<std::int32_t, void*> words;  ///< of the ranks whose source this one reads
  RankFlags read_by;                    ///< those that read this rank's source
};

/// A program and the state of its current run. Sized once; a run allocates nothing.
class Flight {
 public:
  Flight(Program program, Wiring wiring, Messenger* messenger);
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  const Program program;

  /// Resets the state and posts what can be posted at once: nothing that touches the caller's memory before the work
  /// that he has queued on `stream` is done. @pre is_idle()
  Status begin(std::int64_t run, void* stream);

  /// Moves everything a little; *moved says whether anything did. RESHARD_ERR_ABANDONED when a peer that is still
  /// needed gave the run up.
  Status step(bool* moved);

  /// Takes in which ranks have left the transport: Messenger::departed(). To be called now and then while nothing
  /// moves.
  void heed_departures(std::span<const std::int32_t> departed);

  bool is_complete() const;
  std::int32_t num_groups_complete() const { return groups_.num_complete(); }
  /// Whether a group, by its index in Plan::groups, and all groups before it in this rank's order are complete.
  bool is_group_complete(std::int32_t group) const { return num_groups_complete() > program.position_of(group); }

  /// What is still missing, for the message of a deadline.
  std::string missing() const;

  /// Gives the run up: no reader takes the source for good from here on, the peers are told, and all messages are taken
  /// back, or is_idle() is false: then this object must live until it is true, or the transport is gone.
  void abandon();
  bool is_idle() const { return messages_.is_idle() && program.copier->drain(Deadline(0)); }

  /// Throws away what was sent to this rank in a run that it gave up.
  void discard(std::int64_t run) const { messages_.discard(run); }

 private:
  /// A peer whose memory this rank reads.
  struct Source {
    std::int32_t rank = -1;
    std::size_t peer = 0;  // as the control stream counts
    RunWord word;
    std::int32_t num_pulls = 0;
    std::int32_t pulls_left = 0;  // when it is 0 the peer is told that its memory was read
  };
  /// What this rank and a peer are to each other besides messages.
  struct Bond {
    std::int32_t source = -1;  // index in sources_; -1: this rank does not read its memory
    bool is_reader = false;    // it reads this rank's
    bool is_read = false;      // and has said that it has
    bool is_lost = false;      // in lost_
  };

  /// A pull under way, by its index in Program::pulls.
  struct Pull {
    std::size_t index = 0;
    CopyJob job;
  };

  Status open(bool* moved);
  Status hear(bool* moved);
  Status work(bool* moved);
  void heed(std::size_t peer);
  Status check_losses(std::size_t num_known);
  bool needs(std::size_t peer, Control::Loss loss) const;
  void choose_pulls();
  Status step_pulls(bool* moved);
  Status finish_pull(std::size_t index);
  Status step_local(bool* moved);
  Source& source_of(std::int32_t rank);
  bool may_read(const Source& source) const;

  Wiring wiring_;
  Messenger* messenger_;
  GroupCounter groups_;
  Messages messages_;
  std::int64_t run_ = 0;
  bool is_open_ = false;  // the caller's memory may be touched: Copier::is_open()
  std::size_t next_local_ = 0;
  bool is_copying_local_ = false;  // next_local_; local_ is its job
  CopyJob local_;
  std::vector<bool> is_pull_begun_;
  std::size_t first_pull_ = 0;        // all before it are begun
  std::vector<Pull> pulls_;           // under way, Copier::most_jobs() at most
  bool may_pull_ = false;             // a pull may have become possible since none was
  std::int32_t pulled_at_group_ = 0;  // groups that were complete then
  std::vector<Source> sources_;
  std::vector<Bond> bonds_;           // by peer
  std::size_t num_unread_ = 0;        // readers that have not said that they have read
  std::vector<std::size_t> changed_;  // peers of which something was heard in this step
  std::vector<std::size_t> lost_;     // peers that are lost, and that this rank may still need

  std::size_t num_heeded_ = 0;        // of the ranks that have left the transport
  std::vector<std::size_t> parting_;  // peers among them whose last messages may still be under way
  std::optional<std::chrono::steady_clock::time_point> quiet_since_;  // nothing has moved since
};

/// Ranks that a program exchanges anything with, ascending: the peers of its control stream.
std::vector<std::int32_t> peers_of(const Program& program, const RankFlags& read_by);

}  // namespace reshard
