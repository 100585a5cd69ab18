// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/flight.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace reshard {
namespace {

// Copies are run in pieces of this size, so that messages advance in between.
constexpr std::int64_t kCopyBudgetBytes = std::int64_t{1} << 20;

// Messages between tensors themselves need no slot; this bounds how many of them are posted at once.
constexpr std::size_t kMostDirect = 32;

// The two low bits of a tag say what a message is.
constexpr std::uint64_t kTagKinds = 4;
enum TagKind : std::uint64_t { kData = 0, kReady = 1, kDone = 2 };

std::uint64_t tag_of(std::uint64_t run_tag, TagKind kind) {
  return run_tag * kTagKinds + kind;
}

Status peer_error(const Request& request, std::int32_t peer, const char* what) {
  return {request.error, fmt::format("{} rank {} failed in the transport", what, peer)};
}

}  // namespace

Flight::Flight(Program given, const std::vector<bool>& read_by, Transport* transport)
    : program(std::move(given)), transport_(transport) {
  sends_.requests.resize(program.sends.size());
  sends_.slot_busy.resize(static_cast<std::size_t>(program.num_send_slots));
  sends_.in_flight.reserve(sends_.slot_busy.size() + kMostDirect + 1);
  receives_.requests.resize(program.receives.size());
  receives_.slot_busy.resize(static_cast<std::size_t>(program.num_receive_slots));
  receives_.in_flight.reserve(receives_.slot_busy.size() + kMostDirect + 1);
  pull_done_.resize(program.pulls.size());
  work_left_.resize(program.work_of_group.size());
  std::set<std::int32_t> peers;
  for (const GroupCopies& pull : program.pulls) peers.insert(pull.peer);
  for (const std::int32_t peer : peers) sources_.emplace_back().peer = peer;
  for (std::size_t r = 0; r < read_by.size(); ++r) {
    if (read_by[r]) readers_.emplace_back().peer = static_cast<std::int32_t>(r);
  }
  const std::size_t handshakes = sources_.size() + readers_.size();
  transport->reserve(std::max(sends_.in_flight.capacity(), receives_.in_flight.capacity()) + handshakes);
}

Status Flight::begin(std::uint64_t run_tag) {
  data_tag_ = run_tag;
  for (Lane* lane : {&sends_, &receives_}) {
    for (Request& request : lane->requests) request = {};
    lane->slot_busy.assign(lane->slot_busy.size(), false);
    lane->in_flight.clear();
    lane->next = 0;
    lane->num_done = 0;
    lane->position = {};
  }
  is_unpacking_ = false;
  next_local_ = 0;
  local_position_ = {};
  pull_done_.assign(pull_done_.size(), false);
  first_pull_ = 0;
  is_pulling_ = false;
  std::copy(program.work_of_group.begin(), program.work_of_group.end(), work_left_.begin());
  num_groups_complete_ = 0;
  complete_work(-1);
  for (Handshake& source : sources_) {
    source.ready = {};
    source.done = {};
    source.done_posted = false;
    source.steps_left = 0;
    RESHARD_TRY(transport_->recv(source.peer, tag_of(run_tag, kReady), nullptr, 0, &source.ready));
  }
  for (const GroupCopies& pull : program.pulls) ++source_of(pull.peer)->steps_left;
  for (Handshake& reader : readers_) {
    reader.ready = {};
    reader.done = {};
    RESHARD_TRY(transport_->send(reader.peer, tag_of(run_tag, kReady), nullptr, 0, &reader.ready));
    RESHARD_TRY(transport_->recv(reader.peer, tag_of(run_tag, kDone), nullptr, 0, &reader.done));
  }
  bool moved = false;
  return step_receives(&moved);
}

Flight::Handshake* Flight::source_of(std::int32_t peer) {
  const auto found = std::lower_bound(sources_.begin(), sources_.end(), peer,
                                      [](const Handshake& source, std::int32_t rank) { return source.peer < rank; });
  return &*found;
}

/// Counts one piece of work of a group as done (-1: none) and advances over complete groups.
void Flight::complete_work(std::int32_t group) {
  if (group >= 0) --at(work_left_, group);
  while (num_groups_complete_ < static_cast<std::int32_t>(work_left_.size()) &&
         at(work_left_, num_groups_complete_) == 0) {
    ++num_groups_complete_;
  }
}

Status Flight::step(bool* moved) {
  *moved = transport_->progress();
  RESHARD_TRY(step_receives(moved));
  RESHARD_TRY(step_sends(moved));
  RESHARD_TRY(step_unpack(moved));
  RESHARD_TRY(step_pulls(moved));
  step_local(moved);
  return {};
}

Status Flight::step_receives(bool* moved) {
  Lane& lane = receives_;
  while (lane.next < program.receives.size() && lane.in_flight.size() < lane.in_flight.capacity()) {
    const MessageStep& message = program.receives[lane.next];
    if (message.slot >= 0 && lane.slot_busy[static_cast<std::size_t>(message.slot)]) break;
    RESHARD_TRY(transport_->recv(message.peer, tag_of(data_tag_, kData), message.data, message.size_bytes,
                                 &lane.requests[lane.next]));
    if (message.slot >= 0) lane.slot_busy[static_cast<std::size_t>(message.slot)] = true;
    lane.in_flight.push_back(lane.next++);
    *moved = true;
  }
  return {};
}

Status Flight::step_unpack(bool* moved) {
  Lane& lane = receives_;
  if (!is_unpacking_) {
    for (std::size_t i = 0; i < lane.in_flight.size() && !is_unpacking_; ++i) {
      const std::size_t index = lane.in_flight[i];
      if (lane.requests[index].failed()) {
        return peer_error(lane.requests[index], program.receives[index].peer, "receiving from");
      }
      if (!lane.requests[index].done()) continue;
      lane.in_flight.erase(lane.in_flight.begin() + static_cast<std::ptrdiff_t>(i));
      unpacking_ = index;
      is_unpacking_ = true;
      lane.position = {};
    }
  }
  if (!is_unpacking_) return {};
  *moved = true;
  const MessageStep& message = program.receives[unpacking_];
  if (!message.copies.run_some(&lane.position, kCopyBudgetBytes, StoreHint::kStreaming)) return {};
  is_unpacking_ = false;
  ++lane.num_done;
  if (message.slot >= 0) lane.slot_busy[static_cast<std::size_t>(message.slot)] = false;
  for (const std::int32_t group : message.groups) complete_work(group);
  return {};
}

Status Flight::step_sends(bool* moved) {
  Lane& lane = sends_;
  for (std::size_t i = 0; i < lane.in_flight.size();) {
    const std::size_t index = lane.in_flight[i];
    const MessageStep& message = program.sends[index];
    if (lane.requests[index].failed()) return peer_error(lane.requests[index], message.peer, "sending to");
    if (!lane.requests[index].done()) {
      ++i;
      continue;
    }
    if (message.slot >= 0) lane.slot_busy[static_cast<std::size_t>(message.slot)] = false;
    lane.in_flight.erase(lane.in_flight.begin() + static_cast<std::ptrdiff_t>(i));
    ++lane.num_done;
    *moved = true;
  }
  if (lane.next >= program.sends.size() || lane.in_flight.size() >= lane.in_flight.capacity()) return {};
  const MessageStep& message = program.sends[lane.next];
  if (message.slot >= 0 && lane.slot_busy[static_cast<std::size_t>(message.slot)]) return {};
  *moved = true;
  if (!message.copies.run_some(&lane.position, kCopyBudgetBytes, StoreHint::kCached)) return {};
  RESHARD_TRY(transport_->send(message.peer, tag_of(data_tag_, kData), message.data, message.size_bytes,
                               &lane.requests[lane.next]));
  if (message.slot >= 0) lane.slot_busy[static_cast<std::size_t>(message.slot)] = true;
  lane.in_flight.push_back(lane.next++);
  lane.position = {};
  return {};
}

Status Flight::step_pulls(bool* moved) {
  for (Handshake& source : sources_) {
    if (source.ready.failed()) return peer_error(source.ready, source.peer, "waiting for the source of");
    if (source.steps_left > 0 || source.done_posted) continue;
    RESHARD_TRY(transport_->send(source.peer, tag_of(data_tag_, kDone), nullptr, 0, &source.done));
    source.done_posted = true;
    *moved = true;
  }
  if (!is_pulling_) {
    while (first_pull_ < pull_done_.size() && pull_done_[first_pull_]) ++first_pull_;
    for (std::size_t i = first_pull_; i < pull_done_.size() && !is_pulling_; ++i) {
      if (pull_done_[i] || !source_of(program.pulls[i].peer)->ready.done()) continue;
      current_pull_ = i;
      pull_position_ = {};
      is_pulling_ = true;
    }
  }
  if (!is_pulling_) return {};
  *moved = true;
  const GroupCopies& pull = program.pulls[current_pull_];
  if (!pull.copies.run_some(&pull_position_, kCopyBudgetBytes)) return {};
  is_pulling_ = false;
  pull_done_[current_pull_] = true;
  --source_of(pull.peer)->steps_left;
  complete_work(pull.group);
  return {};
}

void Flight::step_local(bool* moved) {
  if (next_local_ >= program.local.size()) return;
  *moved = true;
  const GroupCopies& step = program.local[next_local_];
  if (!step.copies.run_some(&local_position_, kCopyBudgetBytes)) return;
  local_position_ = {};
  ++next_local_;
  complete_work(step.group);
}

bool Flight::is_complete() const {
  const auto finished = [](const Handshake& peer) { return peer.ready.done() && peer.done.done(); };
  return num_groups_complete_ == static_cast<std::int32_t>(work_left_.size()) &&
         sends_.num_done == program.sends.size() && receives_.num_done == program.receives.size() &&
         next_local_ == program.local.size() && std::all_of(sources_.begin(), sources_.end(), finished) &&
         std::all_of(readers_.begin(), readers_.end(), finished);
}

std::string Flight::missing() const {
  std::set<std::int32_t> from;
  std::set<std::int32_t> to;
  for (const std::size_t index : receives_.in_flight) {
    if (receives_.requests[index].pending()) from.insert(program.receives[index].peer);
  }
  for (const Handshake& source : sources_) {
    if (source.ready.pending()) from.insert(source.peer);
  }
  for (const std::size_t index : sends_.in_flight) {
    if (sends_.requests[index].pending()) to.insert(program.sends[index].peer);
  }
  for (const Handshake& reader : readers_) {
    if (reader.done.pending()) to.insert(reader.peer);
  }
  std::string text = fmt::format("{} of {} windows received, {} of {} sent", receives_.num_done,
                                 program.receives.size(), sends_.num_done, program.sends.size());
  if (!from.empty()) text += fmt::format("; nothing yet from ranks {}", fmt::join(from, ", "));
  if (!to.empty()) text += fmt::format("; ranks {} have not taken theirs", fmt::join(to, ", "));
  return text;
}

bool Flight::cancel() {
  bool all = true;
  const auto take_back = [&](Request& request) {
    if (request.pending()) all = transport_->cancel(&request) && all;
  };
  for (Lane* lane : {&sends_, &receives_}) {
    for (const std::size_t index : lane->in_flight) take_back(lane->requests[index]);
  }
  for (std::vector<Handshake>* side : {&sources_, &readers_}) {
    for (Handshake& peer : *side) {
      take_back(peer.ready);
      take_back(peer.done);
    }
  }
  return all;
}

}  // namespace reshard
