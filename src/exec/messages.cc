// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "src/exec/tags.h"

namespace reshard {
namespace {

// Messages between tensors themselves need no slot; this bounds how many of them are posted at once.
constexpr std::int32_t kMostDirect = 32;

// Relayed messages go first: others wait for them further on.
constexpr std::array<std::int32_t, 2> kLanes = {kRelayLane, kFirstLane};

Status peer_error(const Request& request, std::int32_t peer, const char* what) {
  return {request.error, fmt::format("{} rank {} failed in the transport", what, peer)};
}

}  // namespace

bool Messages::Lane::slot_free() const {
  const std::int32_t slot = next_step().slot;
  return slot < 0 || !at(slot_busy, slot);
}

void Messages::Lane::take_slot_and_advance() {
  const std::int32_t slot = next_step().slot;
  if (slot >= 0) at(slot_busy, slot) = true;
  in_flight.push_back(next++);
}

void Messages::Lane::release(std::int32_t slot) {
  if (slot >= 0) at(slot_busy, slot) = false;
}

void Messages::Direction::init(const Lanes& given, const std::array<std::vector<BoundWindow>, 3>& bound,
                               std::int32_t most) {
  const std::int32_t num_slots = given[kFirstLane].num_slots + given[kRelayLane].num_slots;
  most_in_flight = static_cast<std::size_t>(most > 0 ? most : num_slots + kMostDirect + 1);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    Lane& lane = lanes[i];
    lane.schedule = &given[i];
    lane.bound = &bound[i];
    lane.requests.resize(given[i].steps.size());
    lane.forwards_left.resize(given[i].steps.size());
    lane.slot_busy.resize(static_cast<std::size_t>(given[i].num_slots));
    lane.in_flight.reserve(most_in_flight);
  }
}

void Messages::Direction::begin() {
  ended = {};
  for (Lane& lane : lanes) {
    for (std::size_t i = 0; i < lane.requests.size(); ++i) {
      lane.requests[i] = {};
      lane.requests[i].tell = &ended;
      lane.forwards_left[i] = lane.schedule->steps[i].num_forwards;
    }
    lane.slot_busy.assign(lane.slot_busy.size(), false);
    lane.in_flight.clear();
    lane.next = 0;
    lane.num_done = 0;
    lane.is_packing = false;
  }
}

StepId Messages::Direction::id_of(const Request* request) const {
  const std::less<const Request*> is_before;
  for (const std::int32_t number : kLanes) {
    const std::vector<Request>& requests = at(lanes, number).requests;
    if (requests.empty() || is_before(request, requests.data()) || is_before(&requests.back(), request)) continue;
    return {number, static_cast<std::uint32_t>(request - requests.data())};
  }
  return {};
}

/// Takes the next message that has ended out of flight; lane -1: there is none.
StepId Messages::Direction::take_ended() {
  const Request* request = ended.pop();
  if (request == nullptr) return {};
  const StepId id = id_of(request);
  std::vector<std::uint32_t>& in_flight = at(lanes, id.lane).in_flight;
  in_flight.erase(std::find(in_flight.begin(), in_flight.end(), id.index));
  return id;
}

/// Whether the lane may post one more. The last place is the other lane's as long as it has something to post and
/// nothing in flight: else messages that wait for those could keep them out.
bool Messages::Direction::has_room(std::int32_t index) const {
  const Lane& other = at(lanes, 1 - index);
  const bool is_reserved = other.has_next() && other.in_flight.empty();
  return lanes[0].in_flight.size() + lanes[1].in_flight.size() + (is_reserved ? 1 : 0) < most_in_flight;
}

Messages::Messages(const BoundSchedule& bound, GroupCounter* groups, Confirmations* confirmations, std::int64_t binding,
                   Messenger* messenger)
    : copier_(bound.copier.get()),
      schedule_(bound.schedule),
      groups_(groups),
      confirmations_(confirmations),
      binding_(binding),
      messenger_(messenger) {
  sends_.init(schedule_.out, bound.out, schedule_.most_in_flight);
  receives_.init(schedule_.in, bound.in, schedule_.most_in_flight);
  unpacks_.reserve(copier_->most_jobs());
}

std::size_t Messages::most_in_flight() const {
  return std::max(sends_.most_in_flight, receives_.most_in_flight);
}

void Messages::begin(std::int64_t run) {
  run_ = run;
  sends_.begin();
  receives_.begin();
  unpacks_.clear();
}

std::uint64_t Messages::tag_of_step(const WindowStep& step) const {
  return tag_of(binding_, run_, step.is_relayed ? TagKind::kRelayed : TagKind::kFirst);
}

/// As many as have a slot and a place: a message that finds no receive posted waits at its sender, or is copied once
/// more. Never past the first that cannot be posted: the order is what Schedule's proof rests on.
Status Messages::post_receives(bool* moved) {
  for (const std::int32_t index : kLanes) {
    Lane& lane = at(receives_.lanes, index);
    while (lane.has_next() && lane.slot_free() && receives_.has_room(index)) {
      const WindowStep& step = lane.next_step();
      // It would write into a group that is not open yet. The last of its groups opens last.
      const std::span<const std::int32_t> work = schedule_.work_of(step);
      if (!work.empty() && !groups_->is_open(work.back())) break;
      std::byte* data = (*lane.bound)[lane.next].data;
      RESHARD_TRY(messenger_->recv(step.peer, tag_of_step(step), data, static_cast<std::size_t>(step.size_bytes),
                                   space_of(step), &lane.requests[lane.next]));
      lane.take_slot_and_advance();
      *moved = true;
    }
  }
  return {};
}

/// Begins to unpack messages that have arrived, whichever: arrivals may be taken in any order, since each has a place
/// of its own to go to.
Status Messages::find_arrived(bool* moved) {
  while (unpacks_.size() < copier_->most_jobs()) {
    const StepId id = receives_.take_ended();
    if (id.lane < 0) return {};
    const Lane& lane = at(receives_.lanes, id.lane);
    const WindowStep& step = lane.schedule->steps[id.index];
    if (const Request& request = lane.requests[id.index]; request.failed()) {
      return peer_error(request, step.peer, "receiving from");
    }
    unpacks_.push_back({id, CopyJob((*lane.bound)[id.index].batch)});
    *moved = true;
  }
  return {};
}

/// A piece of each per call: in between sends and receives are posted, or the links would be idle while this rank
/// copies.
Status Messages::unpack(bool* moved) {
  RESHARD_TRY(find_arrived(moved));
  for (std::size_t i = 0; i < unpacks_.size();) {
    RESHARD_TRY(copier_->advance(&unpacks_[i].job, moved));
    if (!unpacks_[i].job.is_done) {
      ++i;
      continue;
    }
    finish_receive(unpacks_[i].id);
    unpacks_.erase(unpacks_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return {};
}

void Messages::finish_receive(StepId id) {
  Lane& lane = at(receives_.lanes, id.lane);
  const WindowStep& step = lane.schedule->steps[id.index];
  ++lane.num_done;
  if (step.num_forwards == 0) lane.release(step.slot);  // else finish_send() does, after the last of them
  confirmations_->arrived(id);
}

Status Messages::send(bool* moved) {
  RESHARD_TRY(reap_sends(moved));
  for (const std::int32_t lane : kLanes) {
    RESHARD_TRY(send_next(lane, moved));
  }
  return {};
}

Status Messages::reap_sends(bool* moved) {
  while (true) {
    const StepId id = sends_.take_ended();
    if (id.lane < 0) return {};
    const Lane& lane = at(sends_.lanes, id.lane);
    if (const Request& request = lane.requests[id.index]; request.failed()) {
      return peer_error(request, lane.schedule->steps[id.index].peer, "sending to");
    }
    finish_send(id);
    *moved = true;
  }
}

void Messages::finish_send(StepId id) {
  Lane& lane = at(sends_.lanes, id.lane);
  const WindowStep& step = lane.schedule->steps[id.index];
  lane.release(step.slot);
  ++lane.num_done;
  if (step.place == Place::kSlot) {
    Lane& source = at(receives_.lanes, step.feed.lane);
    if (--source.forwards_left[step.feed.index] == 0) source.release(source.schedule->steps[step.feed.index].slot);
  }
  for (const std::int32_t position : schedule_.work_of(step)) groups_->complete(position);
  confirmations_->sent(id);
}

/// A message without a slot goes from or to the tensor itself, but for one that leaves from the slot it came to.
MemorySpace Messages::space_of(const WindowStep& step) const {
  return step.slot >= 0 || step.place == Place::kSlot ? copier_->staging_space() : copier_->tensor_space();
}

/// Whether the bytes of a send are here: always for those of the source, else once they have been received, or read.
bool Messages::is_fed(const WindowStep& step) const {
  return step.feed.lane < 0 || confirmations_->has_arrived(step.feed);
}

/// A transport may finish a message only after the next ones to the same peer have gone, too. The peer could then pass
/// on none before it has all, and a chain would take as many times as long as it has ranks.
bool Messages::keeps_queue_short(const Lane& lane, const WindowStep& step) const {
  std::int32_t num_queued = 0;
  for (const std::uint32_t index : lane.in_flight) {
    const WindowStep& other = lane.schedule->steps[index];
    if (other.peer == step.peer && (step.is_passed_on || other.is_passed_on)) ++num_queued;
  }
  return num_queued < messenger_->most_per_peer();
}

Status Messages::send_next(std::int32_t index, bool* moved) {
  Lane& lane = at(sends_.lanes, index);
  if (!lane.has_next() || !lane.slot_free() || !sends_.has_room(index)) return {};
  const WindowStep& step = lane.next_step();
  if (!is_fed(step)) return {};
  const BoundWindow& bound = (*lane.bound)[lane.next];
  // Packed as soon as its slot is free, also while the queue is full: else the link would be idle for the copy.
  if (!lane.is_packing) {
    lane.is_packing = true;
    lane.pack = CopyJob(bound.batch);
  }
  if (!lane.pack.is_done) RESHARD_TRY(copier_->advance(&lane.pack, moved));
  if (!lane.pack.is_done || !keeps_queue_short(lane, step)) return {};
  *moved = true;
  RESHARD_TRY(messenger_->send(step.peer, tag_of_step(step), bound.data, static_cast<std::size_t>(step.size_bytes),
                               space_of(step), &lane.requests[lane.next]));
  lane.take_slot_and_advance();
  lane.is_packing = false;
  return {};
}

void Messages::add_pending(std::vector<Request*>* requests) {
  for (Direction* direction : {&sends_, &receives_}) {
    for (Lane& lane : direction->lanes) {
      for (const std::uint32_t index : lane.in_flight) {
        if (lane.requests[index].pending()) requests->push_back(&lane.requests[index]);
      }
    }
  }
}

bool Messages::is_idle() const {
  for (const Direction* direction : {&sends_, &receives_}) {
    for (const Lane& lane : direction->lanes) {
      for (const std::uint32_t index : lane.in_flight) {
        if (lane.requests[index].pending()) return false;
      }
    }
  }
  return true;
}

void Messages::discard(std::int64_t run) const {
  for (const std::int32_t peer : confirmations_->senders()) {
    for (const TagKind kind : {TagKind::kFirst, TagKind::kRelayed}) {
      messenger_->discard(peer, tag_of(binding_, run, kind));
    }
  }
}

}  // namespace reshard
