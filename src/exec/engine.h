// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/exec/flight.h"

namespace reshard {

/// Runs one rank's program over a transport, again and again. Everything happens on the caller's thread inside start,
/// wait_group and finish: receives are posted ahead, the next window is packed while this one travels, arrived windows
/// are unpacked as they come, and copies within the host fill the time between.
class Engine {
 public:
  using BuildFlight = std::function<Result<std::shared_ptr<Flight>>()>;

  /// `build` makes the program, now and again after a failed run whose messages could not be taken back.
  /// `tag_base` < 2^16 is unique to this binding; runs are told apart by kEpochBits below it.
  static Result<std::unique_ptr<Engine>> create(BuildFlight build, Transport* transport, std::uint64_t tag_base);
  static constexpr int kEpochBits = 24;

  /// Begins a run. RESHARD_ERR_INVALID_STATE while one is under way.
  Status start();

  /// Blocks until a group (index in Plan::groups) and all before it in this rank's order are complete on this rank: the
  /// bytes are there, and nothing that this rank passes on reads them any more. The status of a failed run sticks until
  /// the next start.
  Status wait_group(std::int32_t group, const Deadline& deadline);

  /// Moves the run as far as it goes without waiting, by kMostPollSteps at most; whether it is complete.
  Result<bool> poll();

  /// Blocks until everything is complete, also what this rank does for others.
  Status finish(const Deadline& deadline);

  std::int64_t num_runs() const { return num_runs_; }
  std::int32_t num_groups_complete() const;  ///< in this rank's order

  /// Ends a run under way. What must outlive it because a transport may still read it: to be kept as long as the comm.
  std::vector<std::shared_ptr<Flight>> retire();

 private:
  Engine(BuildFlight build, Transport* transport, std::uint64_t tag_base)
      : build_(std::move(build)), transport_(transport), tag_base_(tag_base) {}

  static constexpr int kMostPollSteps = 64;

  Status step(bool* moved);
  Status check_started() const;
  Status wait(const std::function<bool()>& is_complete, const Deadline& deadline);
  Status fail(Status status);

  BuildFlight build_;
  Transport* transport_;
  std::uint64_t tag_base_;
  std::shared_ptr<Flight> flight_;             // null after a failure that lost it
  std::vector<std::shared_ptr<Flight>> lost_;  // flights with messages that could not be taken back
  std::int64_t num_runs_ = 0;
  std::int32_t num_groups_complete_ = 0;  // of a failed run
  bool is_running_ = false;
  Status failure_;
};

}  // namespace reshard
