// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "src/exec/flight.h"
#include "src/transport/transport.h"

namespace reshard {

/// Runs one rank's program over a transport, again and again. Everything happens on the caller's thread inside start,
/// wait_group, poll and finish: receives are posted ahead, the next window is packed while this one travels, arrived
/// windows are unpacked as they come, and copies within the host fill the time between. Engines of one transport may be
/// used by several threads: each step takes the transport's turn.
class Engine {
 public:
  using BuildFlight = std::function<Result<std::shared_ptr<Flight>>()>;

  /// `flight` is the program; `build` makes it anew after a failed run whose messages could not be taken back.
  /// `control` outlives the engine.
  Engine(std::shared_ptr<Flight> flight, BuildFlight build, Control* control, Transport* transport)
      : flight_(std::move(flight)), build_(std::move(build)), control_(control), transport_(transport) {}

  /// Begins a run, after the work that the caller has queued on `stream`: see Copier::begin().
  /// RESHARD_ERR_INVALID_STATE while one is under way.
  Status start(void* stream = nullptr);

  /// Blocks until a group (index in Plan::groups) and all before it in this rank's order are complete on this rank: the
  /// bytes are there and confirmed, and nothing that this rank passes on reads them any more. The status of a failed
  /// run sticks until the next start.
  Status wait_group(std::int32_t group, const Deadline& deadline);

  /// Moves the run as far as it goes without waiting, by kMostPollSteps at most; whether it is complete.
  Result<bool> poll();

  /// Blocks until everything is complete, also what this rank does for others.
  Status finish(const Deadline& deadline);

  std::int64_t num_runs() const { return num_runs_; }
  std::int32_t num_groups_complete() const;  ///< in this rank's order

  /// Ends a run under way and tells the peers that there will be no other. What the transport may still read is given
  /// to it to keep. To be called once, with the transport's turn.
  void retire();

 private:
  static constexpr int kMostPollSteps = 64;

  Status renew_flight();
  void sweep() const;
  Status check_started() const;
  Status step(bool* moved);
  Status look_for_losses();
  Status wait(const std::function<bool()>& is_complete, const Deadline& deadline);
  Status fail(Status status);
  void learn_more(Status* status);

  std::shared_ptr<Flight> flight_;
  BuildFlight build_;
  Control* control_;
  Transport* transport_;
  std::shared_ptr<Flight> stuck_;       // of a failed run, with messages that could not be taken back
  std::deque<std::int64_t> abandoned_;  // runs of which peers may still have messages under way to this rank
  std::int64_t num_runs_ = 0;
  std::int32_t num_groups_complete_ = 0;  // of a failed run
  bool is_running_ = false;
  std::chrono::steady_clock::time_point looked_;  // for losses, last
  Status failure_;
};

}  // namespace reshard
