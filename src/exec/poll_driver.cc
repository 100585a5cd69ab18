// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/poll_driver.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "src/exec/learn_more.h"

namespace reshard {
namespace {

// Looking for lost peers costs a system call, and idle turns are many.
constexpr auto kLookPause = std::chrono::milliseconds(1);

// Failed runs whose late messages are looked for at each start. A peer that is so far behind has other worries.
constexpr std::size_t kMostSwept = 64;

Status in_flight_error() {
  return {RESHARD_ERR_TIMEOUT,
          "messages of a run that was given up are still on their way to this binding's staging; start again later, or "
          "bind anew"};
}

}  // namespace

/// Makes flight_ one that nothing is under way to. At most one other is kept, so that failed runs hold at most twice
/// the staging.
Status PollDriver::renew_flight() {
  if (!flight_->is_idle() || stuck_ != nullptr) transport_->progress();
  if (stuck_ != nullptr && stuck_->is_idle()) stuck_ = nullptr;
  if (flight_->is_idle()) return {};
  if (stuck_ != nullptr) return in_flight_error();
  RESHARD_TRY(std::shared_ptr<Flight> fresh, build_());
  stuck_ = std::exchange(flight_, std::move(fresh));
  return {};
}

void PollDriver::sweep() const {
  for (const std::int64_t run : abandoned_) flight_->discard(run);
}

Status PollDriver::start(void* stream) {
  const std::lock_guard turn(transport_->turn());
  if (is_running_) {
    return {RESHARD_ERR_INVALID_STATE, fmt::format("run {} has not finished; call finish first", num_runs_)};
  }
  Status status = renew_flight();
  // What is wrong with the stream is known here, before there is a run that peers could miss.
  if (status.ok()) RESHARD_TRY(flight_->bound.copier->begin(stream));
  ++num_runs_;  // also of a run that fails here: the peers count it
  failure_ = {};
  num_groups_complete_ = 0;
  if (!status.ok()) {
    control_->begin(num_runs_);
    control_->announce(Snapshot::kAbandoned, Deadline(Control::kAnnounceUs));
    return failure_ = std::move(status).with_context(fmt::format("run {} could not begin", num_runs_));
  }
  sweep();
  is_running_ = true;
  status = flight_->begin(num_runs_);
  return status.ok() ? Status() : fail(std::move(status));
}

Status PollDriver::wait_group(std::int32_t group, const Deadline& deadline) {
  return wait([&] { return flight_->is_group_complete(group); }, deadline);
}

Status PollDriver::finish(const Deadline& deadline) {
  RESHARD_TRY(wait([&] { return flight_->is_complete(); }, deadline));
  is_running_ = false;
  return {};
}

Status PollDriver::release_groups(std::int32_t count) {
  RESHARD_TRY(check_started());
  const std::lock_guard turn(transport_->turn());
  flight_->release_groups(count);
  return {};
}

/// A run that has failed already keeps its own reason.
Status PollDriver::give_up(Status why) {
  RESHARD_TRY(check_started());
  const std::lock_guard turn(transport_->turn());
  return is_running_ ? fail(std::move(why)) : why;
}

Status PollDriver::check_started() const {
  if (!failure_.ok()) return failure_;
  if (num_runs_ == 0) return {RESHARD_ERR_INVALID_STATE, "no run was started; call start first"};
  return {};
}

/// Where nothing moves, a peer may be gone: dead, which fails everybody, or in order, which fails whom it left waiting.
Status PollDriver::look_for_losses() {
  const auto now = std::chrono::steady_clock::now();
  if (now < looked_ + kLookPause) return {};
  looked_ = now;
  RESHARD_TRY(transport_->health());
  flight_->heed_departures(transport_->departed());
  return {};
}

/// Moves everything a little.
Status PollDriver::step(bool* moved) {
  Status status = flight_->step(moved);
  if (status.ok() && !*moved) status = look_for_losses();
  return status.ok() ? Status() : fail(std::move(status));
}

Result<bool> PollDriver::poll() {
  RESHARD_TRY(check_started());
  const std::lock_guard turn(transport_->turn());
  bool moved = true;
  for (int i = 0; i < kMostPollSteps && moved && !flight_->is_complete(); ++i) RESHARD_TRY(step(&moved));
  return flight_->is_complete();
}

Status PollDriver::wait(const std::function<bool()>& is_complete, const Deadline& deadline) {
  RESHARD_TRY(check_started());
  while (true) {
    const std::lock_guard turn(transport_->turn());
    if (is_complete()) return {};
    bool moved = false;
    RESHARD_TRY(step(&moved));
    if (deadline.expired() && !is_complete()) {
      return fail({RESHARD_ERR_TIMEOUT, fmt::format("run {} passed its deadline of {} us: {}", num_runs_,
                                                    deadline.timeout_us(), flight_->missing())});
    }
    if (!moved) transport_->idle();
  }
}

Status PollDriver::fail(Status status) {
  learn_more(control_, transport_, &status);
  is_running_ = false;
  num_groups_complete_ = flight_->num_groups_complete();
  failure_ = std::move(status).with_context(
      fmt::format("run {} is abandoned with {} groups complete", num_runs_, num_groups_complete_));
  flight_->abandon();
  abandoned_.push_back(num_runs_);
  if (abandoned_.size() > kMostSwept) abandoned_.pop_front();
  return failure_;
}

Result<void*> PollDriver::group_event(std::int32_t group) const {
  void* const event = flight_->bound.copier->completed_event();
  if (event == nullptr) {
    return Status{RESHARD_ERR_NOT_SUPPORTED,
                  "the binding is of host memory, and there are no events; wait for the group"};
  }
  const bool is_complete = failure_.ok() ? num_runs_ > 0 && flight_->is_group_complete(group)
                                         : num_groups_complete_ > flight_->bound.schedule.position_of(group);
  if (is_complete) return event;
  return Status{RESHARD_ERR_INVALID_STATE,
                "the group is not complete; its event is there once a wait or a poll says so"};
}

std::int32_t PollDriver::num_groups_complete() const {
  return failure_.ok() ? flight_->num_groups_complete() : num_groups_complete_;
}

const Copier* PollDriver::idle_copier() const {
  return !is_running_ && stuck_ == nullptr && flight_->is_idle() ? flight_->bound.copier.get() : nullptr;
}

/// What a device still copies ends by itself, and soon: memory that is freed waits for it.
bool PollDriver::retire() {
  if (is_running_) flight_->abandon();
  is_running_ = false;
  for (const std::shared_ptr<Flight>& flight : {flight_, stuck_}) {
    if (flight != nullptr && !flight->is_idle()) transport_->keep(flight);
  }
  control_->announce(Snapshot::kLeft, Deadline(Control::kAnnounceUs));
  return true;
}

}  // namespace reshard
