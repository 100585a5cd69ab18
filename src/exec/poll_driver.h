// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "src/exec/driver.h"
#include "src/exec/flight.h"
#include "src/transport/transport.h"

namespace reshard {

/// Everything happens on the caller's thread inside start, wait_group, poll and finish: receives are posted ahead, the
/// next window is packed while this one travels, arrived windows are unpacked as they come, and copies within the host
/// fill the time between. Drivers of one transport may be used by several threads: each step takes the transport's
/// turn.
class PollDriver final : public Driver {
 public:
  using BuildFlight = std::function<Result<std::shared_ptr<Flight>>()>;

  /// `flight` is the bound schedule; `build` makes it anew after a failed run whose messages could not be taken back.
  /// `control` outlives the driver.
  PollDriver(std::shared_ptr<Flight> flight, BuildFlight build, Control* control, Transport* transport)
      : flight_(std::move(flight)), build_(std::move(build)), control_(control), transport_(transport) {}

  Status start(void* stream) override;
  Status wait_group(std::int32_t group, const Deadline& deadline) override;
  Result<bool> poll() override;  ///< kMostPollSteps at most
  Status finish(const Deadline& deadline) override;
  Status release_groups(std::int32_t count) override;
  Status give_up(Status why) override;
  bool is_running() const override { return is_running_; }
  std::int64_t num_runs() const override { return num_runs_; }
  std::int32_t num_groups_complete() const override;
  Result<void*> group_event(std::int32_t group) const override;
  const Copier* idle_copier() const override;
  const BoundSchedule* bound() const override { return &flight_->bound; }
  bool retire() override;

 private:
  static constexpr int kMostPollSteps = 64;

  Status renew_flight();
  void sweep() const;
  Status check_started() const;
  Status step(bool* moved);
  Status look_for_losses();
  Status wait(const std::function<bool()>& is_complete, const Deadline& deadline);
  Status fail(Status status);

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
