// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/exec/group_counter.h"
#include "src/exec/messages.h"
#include "src/exec/program.h"
#include "src/transport/transport.h"

namespace reshard {

/// A program and the state of its current run. Sized once; a run allocates nothing.
class Flight {
 public:
  Flight(Program program, const std::vector<bool>& read_by, Transport* transport);
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  const Program program;

  /// Resets the state and posts what can be posted at once.
  Status begin(std::uint64_t run_tag);

  /// Moves everything a little; *moved says whether anything did.
  Status step(bool* moved);

  bool is_complete() const;
  std::int32_t num_groups_complete() const { return groups_.num_complete(); }
  /// Whether a group, by its index in Plan::groups, and all groups before it in this rank's order are complete.
  bool is_group_complete(std::int32_t group) const { return num_groups_complete() > program.position_of(group); }

  /// What is still missing, for the message of a deadline.
  std::string missing() const;

  /// Takes back all messages; false when one could not be: then this object must outlive the transport's use of it.
  bool cancel();

 private:
  /// A peer that shares mappings with us: `ready` says the source may be read, `done` that it was.
  struct Handshake {
    std::int32_t peer = -1;
    Request ready;
    Request done;
    std::int32_t steps_left = 0;  // pulls from it
    bool done_posted = false;
  };

  Status tell_sources(bool* moved);
  void choose_pull();
  void step_pulls(bool* moved);
  void step_local(bool* moved);
  Handshake* source_of(std::int32_t peer);

  Transport* transport_;
  GroupCounter groups_;
  Messages messages_;
  std::uint64_t run_tag_ = 0;
  std::size_t next_local_ = 0;
  CopyList::Position local_position_;
  std::vector<bool> pull_done_;
  std::size_t first_pull_ = 0;  // all before it are done
  std::size_t current_pull_ = 0;
  bool is_pulling_ = false;
  CopyList::Position pull_position_;
  std::vector<Handshake> sources_;  // peers whose memory we read
  std::vector<Handshake> readers_;  // peers that read ours
};

}  // namespace reshard
