// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/exec/confirmations.h"
#include "src/exec/group_counter.h"
#include "src/transport/messenger.h"

namespace reshard {

/// The messages of a schedule in its current run: two lanes in each direction. Sized once; a run allocates nothing.
class Messages {
 public:
  /// All four must outlive this object. Messages are tagged as those of `binding`.
  Messages(const BoundSchedule& bound, GroupCounter* groups, Confirmations* confirmations, std::int64_t binding,
           Messenger* messenger);

  void begin(std::int64_t run);

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

  /// Appends the messages that are in flight.
  void add_pending(std::vector<Request*>* requests);
  bool is_idle() const;  ///< no message is in flight

  /// Throws away what the peers sent in a run that is over and nobody received.
  void discard(std::int64_t run) const;

 private:
  /// Posted in order from `next`, finished in any order.
  struct Lane {
    const reshard::Lane* schedule = nullptr;
    const std::vector<BoundWindow>* bound = nullptr;
    std::vector<Request> requests;
    std::vector<std::int32_t> forwards_left;  // of receives to staging
    std::vector<bool> slot_busy;
    std::vector<std::uint32_t> in_flight;  // indices of steps: posted, and not taken from `ended`
    std::uint32_t next = 0;
    std::size_t num_done = 0;
    bool is_packing = false;  // `next` of a lane of sends; pack is its job
    CopyJob pack;

    bool has_next() const { return next < schedule->steps.size(); }
    const WindowStep& next_step() const { return schedule->steps[next]; }
    bool slot_free() const;
    void take_slot_and_advance();
    void release(std::int32_t slot);
  };
  struct Direction {
    std::array<Lane, kNumMessageLanes> lanes;
    std::size_t most_in_flight = 0;
    EndedRequests ended;  // of both lanes

    void init(const Lanes& lanes, const std::array<std::vector<BoundWindow>, 3>& bound, std::int32_t most);
    void begin();
    StepId id_of(const Request* request) const;
    StepId take_ended();
    bool has_room(std::int32_t lane) const;
    std::size_t num_done() const { return lanes[0].num_done + lanes[1].num_done; }
    std::size_t num_steps() const { return lanes[0].requests.size() + lanes[1].requests.size(); }
  };

  /// A message that has arrived and is being unpacked.
  struct Unpack {
    StepId id;
    CopyJob job;
  };

  Status find_arrived(bool* moved);
  void finish_receive(StepId id);
  Status reap_sends(bool* moved);
  void finish_send(StepId id);
  Status send_next(std::int32_t lane, bool* moved);
  MemorySpace space_of(const WindowStep& step) const;
  bool is_fed(const WindowStep& step) const;
  bool keeps_queue_short(const Lane& lane, const WindowStep& step) const;
  std::uint64_t tag_of_step(const WindowStep& step) const;

  Copier* copier_;
  const Schedule& schedule_;
  GroupCounter* groups_;
  Confirmations* confirmations_;
  std::int64_t binding_;
  Messenger* messenger_;
  std::int64_t run_ = 0;
  Direction sends_;
  Direction receives_;
  std::vector<Unpack> unpacks_;  // under way, Copier::most_jobs() at most
};

}  // namespace reshard
