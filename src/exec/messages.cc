// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/messages.h"

#include <fmt/format.h>

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

void Messages::Direction::init(const MessageLanes& program, std::int32_t most) {
  const std::int32_t num_slots = program[kFirstLane].num_slots + program[kRelayLane].num_slots;
  most_in_flight = static_cast<std::size_t>(most > 0 ? most : num_slots + kMostDirect + 1);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    Lane& lane = lanes[i];
    lane.program = &program[i];
    lane.requests.resize(program[i].steps.size());
    lane.is_done.resize(program[i].steps.size());
    lane.forwards_left.resize(program[i].steps.size());
    lane.slot_busy.resize(static_cast<std::size_t>(program[i].num_slots));
    lane.in_flight.reserve(most_in_flight);
  }
}

void Messages::Direction::begin() {
  for (Lane& lane : lanes) {
    for (std::size_t i = 0; i < lane.requests.size(); ++i) {
      lane.requests[i] = {};
      lane.is_done[i] = false;
      lane.forwards_left[i] = lane.program->steps[i].num_forwards;
    }
    lane.slot_busy.assign(lane.slot_busy.size(), false);
    lane.in_flight.clear();
    lane.next = 0;
    lane.num_done = 0;
    lane.position = {};
    lane.is_packed = false;
  }
}

/// Whether the lane may post one more. The last place is the other lane's as long as it has something to post and
/// nothing in flight: else messages that wait for those could keep them out.
bool Messages::Direction::has_room(std::int32_t index) const {
  const Lane& other = at(lanes, 1 - index);
  const bool is_reserved = other.has_next() && other.in_flight.empty();
  return lanes[0].in_flight.size() + lanes[1].in_flight.size() + (is_reserved ? 1 : 0) < most_in_flight;
}

Messages::Messages(const Program& program, GroupCounter* groups, Control* control, std::int64_t binding,
                   Transport* transport)
    : groups_(groups), confirmations_(program, groups, control), binding_(binding), transport_(transport) {
  sends_.init(program.sends, program.most_in_flight);
  receives_.init(program.receives, program.most_in_flight);
}

std::size_t Messages::most_in_flight() const {
  return std::max(sends_.most_in_flight, receives_.most_in_flight);
}

void Messages::begin(std::int64_t run) {
  run_ = run;
  confirmations_.begin();
  sends_.begin();
  receives_.begin();
  unpacking_ = {};
}

std::uint64_t Messages::tag_of_step(const MessageStep& step) const {
  return tag_of(binding_, run_, step.is_relayed ? TagKind::kRelayed : TagKind::kFirst);
}

/// As many as have a slot and a place: a message that finds no receive posted waits at its sender, or is copied once
/// more. Never past the first that cannot be posted: the order is what Program's proof rests on.
Status Messages::post_receives(bool* moved) {
  for (const std::int32_t index : kLanes) {
    Lane& lane = at(receives_.lanes, index);
    while (lane.has_next() && lane.slot_free() && receives_.has_room(index)) {
      const MessageStep& step = lane.next_step();
      // It would write into a group that is not open yet. The last of its groups opens last.
      if (!step.work.empty() && !groups_->is_open(step.work.back())) break;
      RESHARD_TRY(
          transport_->recv(step.peer, tag_of_step(step), step.data, step.size_bytes, &lane.requests[lane.next]));
      lane.take_slot_and_advance();
      *moved = true;
    }
  }
  return {};
}

/// Sets unpacking_ to a message that has arrived, whichever: arrivals may be taken in any order, since each has a place
/// of its own to go to.
Status Messages::find_arrived() {
  for (const std::int32_t index : kLanes) {
    Lane& lane = at(receives_.lanes, index);
    for (std::size_t i = 0; i < lane.in_flight.size(); ++i) {
      const std::size_t step = lane.in_flight[i];
      const Request& request = lane.requests[step];
      if (request.failed()) return peer_error(request, lane.program->steps[step].peer, "receiving from");
      if (!request.done()) continue;
      lane.in_flight.erase(lane.in_flight.begin() + static_cast<std::ptrdiff_t>(i));
      lane.position = {};
      unpacking_ = {index, step};
      return {};
    }
  }
  return {};
}

/// One message at a time, a piece per call: in between sends and receives are posted, or the links would be idle while
/// this rank copies.
Status Messages::unpack(bool* moved) {
  if (unpacking_.lane < 0) {
    RESHARD_TRY(find_arrived());
  }
  if (unpacking_.lane < 0) return {};
  *moved = true;
  Lane& lane = at(receives_.lanes, unpacking_.lane);
  const MessageStep& step = lane.program->steps[unpacking_.index];
  if (step.copies.run_some(&lane.position, kCopyBudgetBytes, StoreHint::kStreaming)) finish_receive();
  return {};
}

void Messages::finish_receive() {
  Lane& lane = at(receives_.lanes, unpacking_.lane);
  const MessageStep& step = lane.program->steps[unpacking_.index];
  lane.is_done[unpacking_.index] = true;
  ++lane.num_done;
  if (step.num_forwards == 0) lane.release(step.slot);  // else finish_send() does, after the last of them
  confirmations_.unpacked(unpacking_);
  unpacking_ = {};
}

Status Messages::send(bool* moved) {
  for (const std::int32_t lane : kLanes) {
    RESHARD_TRY(reap_sends(lane, moved));
  }
  for (const std::int32_t lane : kLanes) {
    RESHARD_TRY(send_next(lane, moved));
  }
  return {};
}

Status Messages::reap_sends(std::int32_t number, bool* moved) {
  Lane* lane = &at(sends_.lanes, number);
  for (std::size_t i = 0; i < lane->in_flight.size();) {
    const std::size_t index = lane->in_flight[i];
    const MessageStep& step = lane->program->steps[index];
    const Request& request = lane->requests[index];
    if (request.failed()) return peer_error(request, step.peer, "sending to");
    if (!request.done()) {
      ++i;
      continue;
    }
    lane->release(step.slot);
    lane->in_flight.erase(lane->in_flight.begin() + static_cast<std::ptrdiff_t>(i));
    ++lane->num_done;
    finish_send({number, index});
    *moved = true;
  }
  return {};
}

void Messages::finish_send(MessageId id) {
  const MessageStep& step = at(sends_.lanes, id.lane).program->steps[id.index];
  if (step.is_from_staging) {
    Lane& source = at(receives_.lanes, step.feed.lane);
    if (--source.forwards_left[step.feed.index] == 0) source.release(source.program->steps[step.feed.index].slot);
  }
  for (const std::int32_t position : step.work) groups_->complete(position);
  confirmations_.sent(id);
}

/// Whether the bytes of a send are here: always for those of the source, else once they have been received.
bool Messages::is_fed(const MessageStep& step) const {
  return step.feed.lane < 0 || at(receives_.lanes, step.feed.lane).is_done[step.feed.index];
}

/// A transport may finish a message only after the next ones to the same peer have gone, too. The peer could then pass
/// on none before it has all, and a chain would take as many times as long as it has ranks.
bool Messages::keeps_queue_short(const Lane& lane, const MessageStep& step) const {
  std::int32_t num_queued = 0;
  for (const std::size_t index : lane.in_flight) {
    const MessageStep& other = lane.program->steps[index];
    if (other.peer == step.peer && (step.is_passed_on || other.is_passed_on)) ++num_queued;
  }
  return num_queued < transport_->most_per_peer();
}

Status Messages::send_next(std::int32_t index, bool* moved) {
  Lane& lane = at(sends_.lanes, index);
  if (!lane.has_next() || !lane.slot_free() || !sends_.has_room(index)) return {};
  const MessageStep& step = lane.next_step();
  if (!is_fed(step)) return {};
  // Packed as soon as its slot is free, also while the queue is full: else the link would be idle for the copy.
  if (!lane.is_packed) {
    *moved = true;
    lane.is_packed = step.copies.run_some(&lane.position, kCopyBudgetBytes, StoreHint::kCached);
  }
  if (!lane.is_packed || !keeps_queue_short(lane, step)) return {};
  *moved = true;
  RESHARD_TRY(transport_->send(step.peer, tag_of_step(step), step.data, step.size_bytes, &lane.requests[lane.next]));
  lane.take_slot_and_advance();
  lane.position = {};
  lane.is_packed = false;
  return {};
}

void Messages::add_pending(std::vector<Request*>* requests) {
  for (Direction* direction : {&sends_, &receives_}) {
    for (Lane& lane : direction->lanes) {
      for (const std::size_t index : lane.in_flight) {
        if (lane.requests[index].pending()) requests->push_back(&lane.requests[index]);
      }
    }
  }
}

bool Messages::is_idle() const {
  for (const Direction* direction : {&sends_, &receives_}) {
    for (const Lane& lane : direction->lanes) {
      for (const std::size_t index : lane.in_flight) {
        if (lane.requests[index].pending()) return false;
      }
    }
  }
  return true;
}

void Messages::discard(std::int64_t run) const {
  for (const std::int32_t peer : confirmations_.senders()) {
    for (const TagKind kind : {TagKind::kFirst, TagKind::kRelayed}) {
      transport_->discard(peer, tag_of(binding_, run, kind));
    }
  }
}

}  // namespace reshard
