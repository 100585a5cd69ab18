// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <set>
#include <vector>

#include "src/exec/group_counter.h"
#include "src/exec/program.h"
#include "src/transport/transport.h"

namespace reshard {

/// The messages of a program in its current run: two lanes in each direction. Sized once; a run allocates nothing.
class Messages {
 public:
  /// All three must outlive this object.
  Messages(const Program& program, GroupCounter* groups, Transport* transport);

  void begin(std::uint64_t run_tag);

  /// Each moves everything of its kind a little; sets *moved when anything did.
  Status post_receives(bool* moved);
  Status unpack(bool* moved);
  Status send(bool* moved);

  std::size_t most_in_flight() const;  ///< per direction, larger one
  std::size_t num_sent() const { return sends_.num_done(); }
  std::size_t num_received() const { return receives_.num_done(); }
  std::size_t num_sends() const { return sends_.num_steps(); }
  std::size_t num_receives() const { return receives_.num_steps(); }
  bool is_complete() const { return num_sent() == num_sends() && num_received() == num_receives(); }

  /// Peers of which a message is still on its way.
  void add_pending_peers(std::set<std::int32_t>* from, std::set<std::int32_t>* to) const;

  /// Takes back all messages; false when one could not be.
  bool cancel();

 private:
  /// Posted in order from `next`, finished in any order.
  struct Lane {
    const MessageLane* program = nullptr;
    std::vector<Request> requests;
    std::vector<bool> is_done;
    std::vector<std::int32_t> forwards_left;  // of receives to staging
    std::vector<bool> slot_busy;
    std::vector<std::size_t> in_flight;  // indices of steps
    std::size_t next = 0;
    std::size_t num_done = 0;
    CopyList::Position position;  // within the pack of `next`, or the unpack of `unpacking_`

    bool has_next() const { return next < program->steps.size(); }
    const MessageStep& next_step() const { return program->steps[next]; }
    bool slot_free() const;
    void take_slot_and_advance();
    void release(std::int32_t slot);
  };
  struct Direction {
    std::array<Lane, 2> lanes;
    std::size_t most_in_flight = 0;

    void init(const MessageLanes& program, std::int32_t most);
    void begin();
    bool has_room(std::int32_t lane) const;
    std::size_t num_done() const { return lanes[0].num_done + lanes[1].num_done; }
    std::size_t num_steps() const { return lanes[0].requests.size() + lanes[1].requests.size(); }
  };

  Status find_arrived();
  void finish_receive();
  Status reap_sends(Lane* lane, bool* moved);
  void finish_send(const MessageStep& step);
  Status send_next(std::int32_t lane, bool* moved);
  bool is_fed(const MessageStep& step) const;
  bool keeps_queue_short(const Lane& lane, const MessageStep& step) const;
  std::uint64_t tag_of_step(const MessageStep& step) const;

  GroupCounter* groups_;
  Transport* transport_;
  std::uint64_t run_tag_ = 0;
  Direction sends_;
  Direction receives_;
  MessageId unpacking_;  // lane -1: none
};

}  // namespace reshard
