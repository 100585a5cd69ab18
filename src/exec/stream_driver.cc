// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stream_driver.h"

#include <fmt/format.h>

#include <future>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "src/exec/learn_more.h"

namespace reshard {
namespace {

// Giving a run up takes at most all of these together: the word in device memory, what the peers are told
// (Control::kAnnounceUs), the end of the communicator, and then what the streams still do, over memory that nobody
// reads any more.
constexpr std::int64_t kWithdrawUs = 50'000;
constexpr std::int64_t kGiveUpUs = 350'000;
constexpr std::int64_t kStreamDrainUs = 380'000;

// Assumed, and not measured on a GPU: how long NCCL takes from a revoke or an abort to the word that its kernels see.
// Nothing tells when they have it. Waits for flags end only then: were they to end before, an exchange queued behind
// one could still send what never came. Longer costs only time of a run that has failed, and of the second that its
// status may take all in all.
constexpr auto kWordToKernels = std::chrono::milliseconds(100);
constexpr int kDrainTurns = 64;  // looks between two moments in which other threads may have the processor

// Looking for lost peers costs a system call, and idle turns are many.
constexpr auto kStreamLookPause = std::chrono::milliseconds(1);

// A peer that is gone may have done its part before: what it sent is still on its way through this rank's streams. So
// its loss counts only when nothing has moved for so long.
constexpr std::chrono::milliseconds kLastWordsInStreams(50);
// The same of a peer of which it is not known that it gave this run up.
constexpr std::chrono::milliseconds kLastWordsOfTheSilent(1000);

}  // namespace

/// What is wrong with the stream is known here, before there is a run that peers could miss.
Status StreamDriver::start(void* stream) {
  const std::lock_guard turn(transport_->turn());
  if (is_broken_) {
    return {RESHARD_ERR_INVALID_STATE,
            fmt::format("an earlier run of this binding failed, and its communicator ended with it; destroy the "
                        "binding on every rank and bind anew ({})",
                        failure_.message())};
  }
  if (is_started_) {
    return {RESHARD_ERR_INVALID_STATE, fmt::format("run {} has not finished; call finish first", num_runs_)};
  }
  if (work_->signals->num_begun() > num_good_) {
    return {RESHARD_ERR_INVALID_STATE, "a run was launched with a graph and has not finished; call finish first"};
  }
  RESHARD_TRY(const Stream callers, Stream::borrow(stream, work_->device()));
  RESHARD_TRY(const bool is_capturing, callers.is_capturing());
  return is_capturing ? capture(callers) : begin(callers);
}

Status StreamDriver::capture(const Stream& callers) {
  if (!work_->comm->is_capturable()) {
    return {RESHARD_ERR_INVALID_STATE,
            "the stream captures a graph, and the binding's communicator is one that may not be captured, since it can "
            "be called off; bind with a communicator that is capturable, or start outside of the capture"};
  }
  Status status = work_->enqueue(callers, true, Deadline(enqueue_us_));
  if (!status.ok())
    return std::move(status).with_context("the run was not captured; end the capture and drop the graph");
  has_graph_ = true;
  return {};
}

void StreamDriver::begin_run() {
  num_groups_complete_ = 0;
  is_ended_ = false;
  lost_since_.assign(work_->program().peers.size(), {});
  moved_ = Clock::now();
  control_->begin(num_good_ + 1);
}

Status StreamDriver::begin(const Stream& callers) {
  ++num_runs_;
  begin_run();
  is_started_ = true;
  Status status = work_->enqueue(callers, false, Deadline(enqueue_us_));
  return status.ok() ? Status() : fail(std::move(status).with_context("the run was not queued"));
}

StreamDriver::Way StreamDriver::way() const {
  if (is_started_) return Way::kStarted;
  return has_graph_ ? Way::kLaunched : Way::kNone;
}

Status StreamDriver::check_started() const {
  if (!failure_.ok()) return failure_;
  if (num_runs_ == 0 && !has_graph_) return {RESHARD_ERR_INVALID_STATE, "no run was started; call start first"};
  return {};
}

/// How far the run is: groups in this rank's order, and the end.
Status StreamDriver::note_progress() {
  if (way() == Way::kLaunched) return note_launched();
  while (num_groups_complete_ < num_groups()) {
    RESHARD_TRY(const bool is_done, work_->event(at(work_->program().group_events, num_groups_complete_)).is_done());
    if (!is_done) break;
    ++num_groups_complete_;
    moved_ = Clock::now();
  }
  if (num_groups_complete_ < num_groups() || is_ended_) return {};
  RESHARD_TRY(is_ended_, work_->end().is_done());
  return {};
}

/// Where the next run is one that a graph launches, nobody has said that it began.
void StreamDriver::watch() {
  if (way() == Way::kLaunched && !std::exchange(is_watching_, true)) begin_run();
}

/// A graph's events say nothing outside of it, but the run counts itself.
Status StreamDriver::note_launched() {
  RESHARD_TRY(work_->check_device());
  const std::int64_t num_ended = work_->signals->num_ended();
  is_ended_ = num_ended > num_good_ && num_ended == work_->signals->num_begun();
  if (is_ended_) num_groups_complete_ = num_groups();
  return {};
}

/// Whether messages from or to the peer, or reads of its memory or of this rank's, are still to come.
bool StreamDriver::needs(const StreamProgram::Peer& peer) const {
  if (way() == Way::kLaunched || peer.is_reader) return true;
  for (const std::int32_t event : peer.events) {
    const Result<bool> is_done = work_->event(event).is_done();
    if (!is_done.ok() || !*is_done) return true;
  }
  return false;
}

/// A peer may be gone: dead, which fails everybody, or in order, which fails whom it left waiting.
Status StreamDriver::look_for_losses() {
  const auto now = Clock::now();
  if (now < looked_ + kStreamLookPause) return {};
  looked_ = now;
  RESHARD_TRY(transport_->health());
  for (const std::int32_t rank : transport_->departed()) {
    if (control_->has(rank)) control_->lose(control_->index_of(rank));
  }
  const std::vector<StreamProgram::Peer>& peers = work_->program().peers;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const Control::Loss loss = control_->loss(control_->index_of(peers[i].rank));
    // One that speaks of a later run has finished this one.
    if (loss == Control::Loss::kNone || loss == Control::Loss::kMovedOn) continue;
    if (loss == Control::Loss::kLeft && control_->has_come(control_->index_of(peers[i].rank))) continue;
    if (lost_since_[i] == Clock::time_point()) lost_since_[i] = now;
    // What a group of NCCL waits for may be another rank, and this one's part long be done.
    const auto patience = loss == Control::Loss::kAbandoned ? kLastWordsInStreams : kLastWordsOfTheSilent;
    if (now < std::max(lost_since_[i], moved_) + patience) continue;
    if (!needs(peers[i])) continue;
    return {RESHARD_ERR_ABANDONED,
            fmt::format(
                "rank {} {}", peers[i].rank,
                loss == Control::Loss::kLeft ? "destroyed its binding, or gave an earlier run up" : "gave the run up")};
  }
  return {};
}

/// Looks at everything once. What is complete stays so, whatever is heard of peers afterwards.
Status StreamDriver::step() {
  transport_->progress();
  bool moved = false;
  Status status = note_progress();
  if (status.ok() && is_over()) return {};
  if (status.ok()) status = control_->receive(&moved);
  if (status.ok()) status = work_->comm->poll();
  if (status.ok()) status = look_for_losses();
  return status.ok() ? Status() : fail(std::move(status));
}

Result<bool> StreamDriver::poll() {
  RESHARD_TRY(check_started());
  const std::lock_guard turn(transport_->turn());
  watch();
  if (!is_over()) RESHARD_TRY(step());
  return is_over();
}

Status StreamDriver::wait(const std::function<bool()>& is_complete, const Deadline& deadline) {
  RESHARD_TRY(check_started());
  while (true) {
    const std::lock_guard turn(transport_->turn());
    watch();
    if (is_complete()) return {};
    RESHARD_TRY(step());
    if (is_complete()) return {};
    if (deadline.expired()) {
      return fail({RESHARD_ERR_TIMEOUT, fmt::format("run {} passed its deadline of {} us: {}", num_good_ + 1,
                                                    deadline.timeout_us(), missing())});
    }
    transport_->idle();
  }
}

Status StreamDriver::wait_group(std::int32_t group, const Deadline& deadline) {
  const std::int32_t position = work_->stages().schedule.position_of(group);
  return wait([&] { return num_groups_complete_ > position; }, deadline);
}

Status StreamDriver::finish(const Deadline& deadline) {
  RESHARD_TRY(wait([&] { return is_over(); }, deadline));
  end_run();
  return {};
}

/// The runs that have ended were good.
void StreamDriver::end_run() {
  if (is_started_) {
    ++num_good_;
  } else if (is_watching_) {
    num_runs_ += work_->signals->num_ended() - num_good_;
    num_good_ = work_->signals->num_ended();
  }
  is_started_ = is_watching_ = false;
}

std::string StreamDriver::missing() const {
  std::set<std::int32_t> ranks;
  for (const StreamProgram::Peer& peer : work_->program().peers) {
    if (needs(peer)) ranks.insert(peer.rank);
  }
  std::string text = fmt::format("{} of {} groups are complete", num_groups_complete_, num_groups());
  if (!ranks.empty()) text += fmt::format("; not everything with ranks {} is done", fmt::join(ranks, ", "));
  return text;
}

Status StreamDriver::fail(Status status) {
  learn_more(control_, transport_, &status);
  static_cast<void>(note_progress().ok());  // groups may have come to their end meanwhile
  failure_ = std::move(status).with_context(
      fmt::format("run {} is abandoned with {} groups complete", num_good_ + 1, num_groups_complete_));
  abandon();
  if (!is_idle()) {
    failure_ = {failure_.code(), failure_.message() +
                                     "; the device still works on it, and may read and write the buffers until the "
                                     "communicator is ended"};
  }
  return failure_;
}

/// Ending a communicator begins with a word to its kernels, by which none sends any more, and then waits for those that
/// are queued; these may be queued behind waits for flags. So the waits are ended once it has had time for that word.
void StreamDriver::end_work() {
  std::future<void> given_up = std::async(
      std::launch::async, [comm = work_->comm.get()] { static_cast<void>(comm->give_up(Deadline(kGiveUpUs)).ok()); });
  given_up.wait_for(kWordToKernels);
  static_cast<void>(work_->signals->end_waits(Deadline(kWithdrawUs)).ok());
  given_up.wait();
}

/// Whether the device is done with all that was queued. What a graph launched is in streams of the graph's own.
bool StreamDriver::is_idle() const {
  if (!work_->is_idle()) return false;
  const bool may_be_launched = is_launch_lost_ || (has_graph_ && !is_broken_);
  return !may_be_launched || !work_->signals->is_in_run() || !work_->check_device().ok();
}

/// In this order: first whoever reads this rank's memory must not take what it reads for the run's, then the peers are
/// told, then no message goes out any more; only then may waits of the streams end, for what follows them runs over
/// bytes that never came.
void StreamDriver::abandon() {
  is_broken_ = true;
  is_launch_lost_ = way() == Way::kLaunched;
  is_started_ = is_watching_ = false;
  if (is_launch_lost_) work_->signals->expect_end();
  static_cast<void>(work_->signals->withdraw(num_good_, Deadline(kWithdrawUs)).ok());
  // There will be no other run of this binding: whoever begins the next one needs to know, too.
  for (std::size_t peer = 0; peer < control_->peers().size(); ++peer) control_->say(peer, Snapshot::kAbandoned);
  control_->announce(Snapshot::kLeft, Deadline(Control::kAnnounceUs));
  end_work();
  const Deadline drained(kStreamDrainUs);
  for (int turn = 1; !is_idle() && !drained.expired(); ++turn) {
    if (turn % kDrainTurns == 0) std::this_thread::yield();
  }
}

Result<void*> StreamDriver::group_event(std::int32_t group) const {
  const std::int32_t position = work_->stages().schedule.position_of(group);
  if (!failure_.ok() && num_groups_complete_ <= position) {
    return Status{RESHARD_ERR_INVALID_STATE, "the group is not complete, and the run has failed"};
  }
  if (num_runs_ == 0 && !has_graph_) {
    return Status{RESHARD_ERR_INVALID_STATE, "no run was started; call start first"};
  }
  return work_->event(at(work_->program().group_events, position)).handle();
}

std::shared_ptr<NcclComm> StreamDriver::sound_comm() const {
  const bool is_sound = !is_broken_ && !is_started_ && !work_->comm->is_given_up() && work_->comm->poll().ok();
  return is_sound ? work_->comm : nullptr;
}

/// Where a run failed, here or at a peer, streams may still be at it when nobody waits for them any more, and raise
/// flags of other ranks or look at them: the flags then stay for good, a few KiB. Else they stay until the transport is
/// gone, unless all peers have left: one may be in a run that this rank takes no part in. What the device may still
/// touch stays for good, too: freeing any of it would wait for the device.
bool StreamDriver::retire() {
  const bool is_under_way = is_started_ || (has_graph_ && work_->signals->num_begun() > num_good_);
  if (is_under_way && !is_broken_ && !is_idle()) abandon();
  if (!is_broken_) control_->announce(Snapshot::kLeft, Deadline(Control::kAnnounceUs));
  static auto& kept = *new std::vector<std::shared_ptr<void>>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const bool has_ended = is_idle();
  if (!has_ended) {
    kept.push_back(work_);
  } else if (work_->signals->has_peers()) {
    const bool has_failed = is_broken_ || control_->has_failed();
    if (has_failed) kept.push_back(work_->signals);
    if (!has_failed && !control_->staying().empty()) transport_->keep(work_->signals);
  }
  work_->signals->disconnect();
  return has_ended;
}

}  // namespace reshard
