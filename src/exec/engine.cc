// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/engine.h"

#include <fmt/format.h>

namespace reshard {

Result<std::unique_ptr<Engine>> Engine::create(BuildFlight build, Transport* transport, std::uint64_t tag_base) {
  std::unique_ptr<Engine> engine(new Engine(std::move(build), transport, tag_base));
  RESHARD_TRY(engine->flight_, engine->build_());
  return engine;
}

Status Engine::start() {
  if (is_running_) {
    return {RESHARD_ERR_INVALID_STATE, fmt::format("run {} has not finished; call finish first", num_runs_)};
  }
  if (flight_ == nullptr) {
    RESHARD_TRY(flight_, build_());
  }
  failure_ = {};
  ++num_runs_;
  is_running_ = true;
  const std::uint64_t epoch = static_cast<std::uint64_t>(num_runs_) & ((std::uint64_t{1} << kEpochBits) - 1);
  Status status = flight_->begin((tag_base_ << kEpochBits) + epoch);
  return status.ok() ? Status() : fail(std::move(status));
}

Status Engine::wait_group(std::int32_t group, const Deadline& deadline) {
  return wait([&] { return flight_->is_group_complete(group); }, deadline);
}

Status Engine::finish(const Deadline& deadline) {
  RESHARD_TRY(wait([&] { return flight_->is_complete(); }, deadline));
  is_running_ = false;
  return {};
}

Status Engine::wait(const std::function<bool()>& is_complete, const Deadline& deadline) {
  RESHARD_TRY(check_started());
  while (!is_complete()) {
    bool moved = false;
    RESHARD_TRY(step(&moved));
    if (moved) continue;
    if (deadline.expired()) {
      return fail({RESHARD_ERR_TIMEOUT, fmt::format("run {} passed its deadline of {} us: {}", num_runs_,
                                                    deadline.timeout_us(), flight_->missing())});
    }
    transport_->idle();
  }
  return {};
}

Status Engine::check_started() const {
  if (!failure_.ok()) return failure_;
  if (num_runs_ == 0) return {RESHARD_ERR_INVALID_STATE, "no run was started; call start first"};
  return {};
}

/// Moves everything a little; where nothing moves, a peer may be gone.
Status Engine::step(bool* moved) {
  Status status = flight_->step(moved);
  if (status.ok() && !*moved) status = transport_->health();
  return status.ok() ? Status() : fail(std::move(status));
}

Result<bool> Engine::poll() {
  RESHARD_TRY(check_started());
  bool moved = true;
  for (int i = 0; i < kMostPollSteps && moved && !flight_->is_complete(); ++i) RESHARD_TRY(step(&moved));
  return flight_->is_complete();
}

Status Engine::fail(Status status) {
  is_running_ = false;
  num_groups_complete_ = flight_->num_groups_complete();
  failure_ = std::move(status).with_context(
      fmt::format("run {} is abandoned with {} groups complete", num_runs_, num_groups_complete_));
  if (!flight_->cancel()) {
    lost_.push_back(std::move(flight_));
    flight_ = nullptr;
  }
  return failure_;
}

std::int32_t Engine::num_groups_complete() const {
  return failure_.ok() && flight_ != nullptr ? flight_->num_groups_complete() : num_groups_complete_;
}

std::vector<std::shared_ptr<Flight>> Engine::retire() {
  if (is_running_ && !flight_->cancel()) lost_.push_back(std::move(flight_));
  is_running_ = false;
  return std::move(lost_);
}

}  // namespace reshard
