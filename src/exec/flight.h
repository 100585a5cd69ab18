// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/exec/program.h"
#include "src/transport/transport.h"

namespace reshard {

/// A program and the state of its current run. Sized once; a run allocates nothing.
class Flight {
 public:
  Flight(Program program, const std::vector<bool>& read_by, Transport* transport);

  Program program;

  /// Resets the state and posts what can be posted at once.
  Status begin(std::uint64_t data_tag);

  /// Moves everything a little; *moved says whether anything did.
  Status step(bool* moved);

  bool is_complete() const;
  std::int32_t num_groups_complete() const { return num_groups_complete_; }

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
  /// Messages of one direction: posted in order from `next`, finished in any order.
  struct Lane {
    std::vector<Request> requests;
    std::vector<bool> slot_busy;
    std::vector<std::size_t> in_flight;  // indices into the program's steps
    std::size_t next = 0;
    std::size_t num_done = 0;
    CopyList::Position position;  // within the pack of `next`, or the unpack of `unpacking`
  };

  Status step_receives(bool* moved);
  Status step_unpack(bool* moved);
  Status step_sends(bool* moved);
  Status step_pulls(bool* moved);
  void step_local(bool* moved);
  void complete_work(std::int32_t group);
  Handshake* source_of(std::int32_t peer);

  Transport* transport_;
  std::uint64_t data_tag_ = 0;
  std::vector<std::int32_t> work_left_;  // by group
  std::int32_t num_groups_complete_ = 0;
  Lane sends_;
  Lane receives_;
  bool is_unpacking_ = false;
  std::size_t unpacking_ = 0;
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
