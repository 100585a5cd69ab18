// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/reload/reload.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "src/reload/commit.h"
#include "src/transport/vote.h"

namespace reshard {

ReloadScratch::~ReloadScratch() {
  if (data_ == nullptr) return;
  const std::lock_guard turn(transport_->turn());
  static_cast<void>(memory_->free(data_).ok());
}

Status ReloadScratch::allocate(std::int64_t size_bytes, PeerMemory* memory, Transport* transport) {
  size_bytes_ = size_bytes;
  if (size_bytes == 0) return {};
  memory_ = memory;
  transport_ = transport;
  if (memory->space() == MemorySpace::kDevice) {
    RESHARD_TRY(device_, DeviceMemory::allocate(memory->device(), static_cast<std::size_t>(size_bytes)));
    return {};
  }
  const std::lock_guard turn(transport->turn());
  RESHARD_TRY(data_, memory->allocate(static_cast<std::size_t>(size_bytes)));
  return {};
}

Status Reload::prepare(const Place& place, std::shared_ptr<const Plan> plan, ReloadMemory stable) {
  place_ = place;
  plan_ = std::move(plan);
  rank_ = place.transport->rank();
  stable_ = std::move(stable);
  if (plan_->num_ranks != place_.transport->num_ranks()) return {};  // the binding says so
  RESHARD_TRY(map_, map_layers(*plan_, rank_, stable_));
  RESHARD_TRY(take_scratch(nullptr));
  place_buffers(nullptr);
  return prepare_commits();
}

Status Reload::follow(const Reload& older, std::shared_ptr<const Plan> plan, ReloadMemory stable) {
  if (older.is_running_) return {RESHARD_ERR_INVALID_STATE, "a reload is under way; call finish first"};
  place_ = older.place_;
  plan_ = std::move(plan);
  rank_ = older.rank_;
  stable_ = std::move(stable);
  if (plan_->num_ranks != place_.transport->num_ranks()) return {};  // the binding says so
  RESHARD_TRY(
      keep_buffers({"destination", *older.plan_->dst, older.stable_.buffers, *plan_->dst, rank_}, &stable_.buffers));
  if (stable_.outputs.empty()) RESHARD_TRY(keep_outputs(older));
  RESHARD_TRY(map_, map_layers(*plan_, rank_, stable_));
  RESHARD_TRY(take_scratch(&older));
  place_buffers(&older);
  for (std::size_t g = 0; g < older.plan_->groups.size(); ++g) {
    older_states_[older.plan_->groups[g]] = older.state(static_cast<std::int32_t>(g));
  }
  return prepare_commits();
}

/// Plans number their groups each for itself; the caller's numbers stay.
Status Reload::keep_outputs(const Reload& older) {
  for (ReloadOutput output : older.stable_.outputs) {
    const std::int64_t group = at(older.plan_->groups, output.group);
    const auto found = std::lower_bound(plan_->groups.begin(), plan_->groups.end(), group);
    if (found == plan_->groups.end() || *found != group) {
      return invalid_argument(
          fmt::format("output {} is of group {}, which the new plan has not got; give all outputs with the update",
                      stable_.outputs.size(), group));
    }
    output.group = static_cast<std::int32_t>(found - plan_->groups.begin());
    stable_.outputs.push_back(output);
  }
  return {};
}

Status Reload::take_scratch(const Reload* older) {
  if (older != nullptr && older->scratch_->size_bytes() >= map_.scratch_bytes) {
    scratch_ = older->scratch_;
  } else {
    scratch_ = std::make_shared<ReloadScratch>();
    RESHARD_TRY(scratch_->allocate(map_.scratch_bytes, place_.memory, place_.transport)
                    .with_context("scratch of the open layers"));
  }
  map_.place(scratch_->data());
  steps_.resize(map_.layers.size());
  return {};
}

/// What is bound. Peers that read it for the older reload have it mapped where it lies in the same scratch at the same
/// place, or stays with the caller as it was.
void Reload::place_buffers(const Reload* older) {
  std::map<std::int64_t, const Layer::Part*> parts;
  for (const Layer& layer : map_.layers) {
    for (const Layer::Part& part : layer.buffers) parts[part.id] = &part;
  }
  std::map<std::int64_t, const BoundBuffer*> before;
  if (older != nullptr) {
    for (const BoundBuffer& buffer : older->landing_) before[buffer.id] = &buffer;
  }
  for (BoundBuffer buffer : stable_.buffers) {
    const auto part = parts.find(buffer.id);
    const bool is_in_scratch = part != parts.end() && part->second->is_in_scratch();
    if (part != parts.end()) buffer.data = part->second->landed;
    const auto was = before.find(buffer.id);
    const bool is_same =
        was != before.end() && was->second->data == buffer.data && was->second->size_bytes == buffer.size_bytes;
    buffer.is_kept = is_same && (is_in_scratch || buffer.is_kept);
    landing_.push_back(buffer);
  }
}

Status Reload::prepare_commits() {
  RESHARD_TRY(copier_, place_.make_copier());
  // What is committed is used by the server next, from wherever: nothing is said of the cache.
  for (CopyList& copies : commit_copies(*plan_, rank_, map_)) {
    commits_.push_back(copier_->add(std::move(copies), StoreHint::kAuto));
  }
  return copier_->prepare();
}

std::int32_t Reload::position_of(std::int32_t group) const {
  return plan_->position_of(group, plan_->groups.empty() ? 0 : at(plan_->first_groups, rank_));
}

Status Reload::check_running() const {
  if (is_running_) return {};
  return {RESHARD_ERR_INVALID_STATE, "no reload is under way; call start first"};
}

/// The first failure is the run's.
Status Reload::fail(Status status) {
  if (failure_.ok()) failure_ = status;
  return status;
}

Status Reload::start(void* stream) {
  if (is_running_) return {RESHARD_ERR_INVALID_STATE, "the last reload was not finished; call finish first"};
  const std::int64_t before = binding_->driver().num_runs();
  Status started = binding_->driver().start(stream);
  if (binding_->driver().num_runs() == before) return started;  // there is no run that the others could miss
  is_running_ = true;
  failure_ = {};
  std::fill(steps_.begin(), steps_.end(), Step::kWaiting);
  next_ = num_released_ = 0;
  // What this rank has nothing of holds up no layer behind it: else one would wait for room that nobody gives back.
  for (std::size_t p = 0; p < map_.layers.size(); ++p) {
    if (is_passed_over(p)) steps_[p] = Step::kCommitted;
  }
  release();
  return started.ok() ? started : fail(std::move(started));
}

Result<const Layer*> Reload::next(const Deadline& deadline) {
  RESHARD_TRY(check_running());
  if (!failure_.ok()) return failure_;
  while (next_ < map_.layers.size() && is_passed_over(next_)) ++next_;
  if (next_ == map_.layers.size()) return static_cast<const Layer*>(nullptr);
  const Layer& layer = map_.layers[next_];
  const std::size_t position = next_;
  const auto is_with_caller = [](Step step) { return step == Step::kHandedOut; };
  const auto first = std::find_if(steps_.begin(), steps_.end(), is_with_caller) - steps_.begin();
  if (static_cast<std::size_t>(first) + static_cast<std::size_t>(map_.num_slots) <= position) {
    return Status{RESHARD_ERR_INVALID_STATE,
                  fmt::format("group {} cannot come before group {} is committed: {} groups may be open at once",
                              name_of(layer), name_of(map_.layers[static_cast<std::size_t>(first)]), map_.num_slots)};
  }
  Status landed = binding_->driver().wait_group(layer.group, deadline);
  if (!landed.ok()) return fail(std::move(landed));
  steps_[position] = Step::kHandedOut;
  next_ = position + 1;
  return &layer;
}

Result<bool> Reload::poll() {
  RESHARD_TRY(check_running());
  if (!failure_.ok()) return failure_;
  const Result<bool> polled = binding_->driver().poll();
  if (!polled.ok()) return fail(polled.status());
  std::size_t position = next_;
  while (position < map_.layers.size() && is_passed_over(position)) ++position;
  return position < map_.layers.size() && static_cast<std::size_t>(binding_->driver().num_groups_complete()) > position;
}

/// Of such a layer nothing lands here.
bool Reload::is_passed_over(std::size_t position) const {
  return map_.layers[position].empty() && !map_.layers[position].lands_directly;
}

/// Slots are used in the order of positions, so what is committed out of turn waits for those before it.
void Reload::release() {
  while (num_released_ < steps_.size() && steps_[num_released_] == Step::kCommitted) ++num_released_;
  // A run that failed meanwhile opens no more groups; next() and finish() tell of it.
  static_cast<void>(binding_->driver().release_groups(static_cast<std::int32_t>(num_released_)).ok());
}

Status Reload::copy_layer(std::size_t position, void* stream) {
  RESHARD_TRY(copier_->begin(stream));
  CopyJob job(commits_[position]);
  bool moved = false;
  for (bool is_open = false; !is_open;) {
    RESHARD_TRY(is_open, copier_->is_open());
  }
  while (!job.is_done) RESHARD_TRY(copier_->advance(&job, &moved));
  return {};
}

Status Reload::commit(std::int32_t group, void* stream) {
  RESHARD_TRY(check_running());
  const auto position = static_cast<std::size_t>(position_of(group));
  if (steps_[position] != Step::kHandedOut) {
    return {RESHARD_ERR_INVALID_STATE,
            fmt::format("group {} {}", at(plan_->groups, group),
                        steps_[position] == Step::kCommitted ? "is committed already" : "was not handed out yet")};
  }
  RESHARD_TRY(copy_layer(position, stream));
  steps_[position] = Step::kCommitted;
  release();
  return {};
}

Status Reload::give_up(Status why) {
  RESHARD_TRY(check_running());
  // What the driver says of it has the reason, and how far the run was; of a run that had failed before, its own
  // reason.
  static_cast<void>(fail(binding_->driver().give_up(std::move(why))).ok());
  return {};
}

Status Reload::complete_rest(const Deadline& deadline) {
  RESHARD_TRY(failure_);
  const auto left = std::find(steps_.begin(), steps_.end(), Step::kHandedOut);
  if (left != steps_.end()) {
    const Layer& layer = map_.layers[static_cast<std::size_t>(left - steps_.begin())];
    return {RESHARD_ERR_INVALID_STATE, fmt::format("group {} was handed out and not committed", name_of(layer))};
  }
  while (true) {
    RESHARD_TRY(const Layer* layer, next(deadline));
    if (layer == nullptr) break;
    if (layer->needs_caller()) {
      return {RESHARD_ERR_INVALID_STATE,
              fmt::format("group {} has outputs, or buffers in scratch alone, and was not handed out before finish",
                          name_of(*layer))};
    }
    RESHARD_TRY(commit(layer->group, nullptr));
  }
  return binding_->driver().finish(deadline);
}

Status Reload::finish(std::int64_t timeout_us) {
  RESHARD_TRY(check_running());
  Status mine = complete_rest(Deadline(timeout_us));
  // Whatever it was that failed here, the peers must not wait for this rank.
  if (!mine.ok()) mine = fail(binding_->driver().give_up(std::move(mine)));
  is_running_ = false;
  const std::lock_guard turn(place_.transport->turn());
  Status voted = vote(place_.transport, mine, Deadline(timeout_us));
  return voted.ok() ? voted : fail(std::move(voted));
}

/// Before the first run with this plan: what the last one with the plan before left.
Reload::State Reload::state_of_older(std::int32_t group) const {
  const auto found = older_states_.find(at(plan_->groups, group));
  return found == older_states_.end() ? State::kUnchanged : found->second;
}

Reload::State Reload::state(std::int32_t group) const {
  const auto position = static_cast<std::size_t>(position_of(group));
  const Layer& layer = map_.layers[position];
  if (binding_->driver().num_runs() == 0) return state_of_older(group);
  if (steps_[position] == Step::kCommitted) return State::kComplete;
  if (!layer.lands_directly) return State::kUnchanged;
  const bool is_all_there = std::none_of(layer.buffers.begin(), layer.buffers.end(),
                                         [](const Layer::Part& part) { return part.is_in_scratch(); });
  const auto num_landed = static_cast<std::size_t>(binding_->driver().num_groups_complete());
  if (is_all_there && layer.outputs.empty() && position < num_landed) return State::kComplete;
  const bool was_open = position < num_released_ + static_cast<std::size_t>(map_.num_slots);
  return was_open ? State::kTorn : State::kUnchanged;
}

}  // namespace reshard
