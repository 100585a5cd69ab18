// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>

#include "src/base/status.h"
#include "src/transport/deadline.h"

namespace reshard {

struct BoundSchedule;
class Copier;
class NcclComm;

/// Runs one rank's bound schedule, again and again. What stands behind it decides who does the work and when: the
/// thread that calls (PollDriver), or streams of a device.
class Driver {
 public:
  virtual ~Driver() = default;

  /// Begins a run, after the work that the caller has queued on `stream`: see Copier::begin().
  /// RESHARD_ERR_INVALID_STATE while one is under way.
  virtual Status start(void* stream = nullptr) = 0;

  /// Blocks until a group (index in Plan::groups) and all before it in this rank's order are complete on this rank: the
  /// bytes are there and confirmed, and nothing that this rank passes on reads them any more. The status of a failed
  /// run sticks until the next start.
  virtual Status wait_group(std::int32_t group, const Deadline& deadline) = 0;

  /// Moves the run as far as it goes without waiting, within bounds; whether it is complete.
  virtual Result<bool> poll() = 0;

  /// Blocks until everything is complete, also what this rank does for others.
  virtual Status finish(const Deadline& deadline) = 0;

  /// Of a binding that holds groups (BindOptions::holds_groups): the first `count` groups of this rank's order are read
  /// no more, and their memory may be that of later ones. `count` never falls in a run.
  /// RESHARD_ERR_NOT_SUPPORTED for a driver that cannot wait for it.
  virtual Status release_groups(std::int32_t /*count*/) {
    return {RESHARD_ERR_NOT_SUPPORTED, "groups are held by the driver that polls alone"};
  }

  /// Gives the run under way up, with this reason; peers that need this rank are told. Nothing if there is none.
  virtual Status give_up(Status why) { return why; }

  virtual bool is_running() const = 0;  ///< a run was started, and neither finished nor failed
  virtual std::int64_t num_runs() const = 0;
  virtual std::int32_t num_groups_complete() const = 0;  ///< in this rank's order

  /// A cudaEvent_t, the driver's, behind which the group (index in Plan::groups) is complete on this rank.
  /// RESHARD_ERR_NOT_SUPPORTED for buffers of the host, RESHARD_ERR_INVALID_STATE while it is not known when it will
  /// be.
  virtual Result<void*> group_event(std::int32_t group) const = 0;

  /// Who copies, where nothing of a run, a failed one included, uses its staging any more, so that a binding that
  /// follows may have it. Null: there is none.
  virtual const Copier* idle_copier() const { return nullptr; }

  /// What it runs, where the calling thread does the work; null: in streams.
  virtual const BoundSchedule* bound() const { return nullptr; }

  /// The communicator, where a binding that follows may have it: no run has ended it. Null: there is none.
  virtual std::shared_ptr<NcclComm> sound_comm() const { return nullptr; }

  /// Ends a run under way and tells the peers that there will be no other. What the transport may still read is given
  /// to it to keep. To be called once, with the transport's turn.
  /// @return whether nothing touches the binding's own memory any more; else it must stay for good
  virtual bool retire() = 0;
};

}  // namespace reshard
