// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/confirmations.h"

#include <algorithm>
#include <utility>

namespace reshard {
namespace {

std::size_t kind_of(const WindowStep& step) {
  return step.is_relayed ? 1 : 0;
}

/// A number that comes from another process is not trusted: it takes nothing past the end.
std::size_t at_most(std::int64_t number, std::size_t most) {
  return std::min(static_cast<std::size_t>(std::max<std::int64_t>(number, 0)), most);
}

}  // namespace

Confirmations::Confirmations(const Schedule& schedule, GroupCounter* groups, Control* control)
    : schedule_(schedule), groups_(groups), control_(control), peers_(control->peers().size()) {
  add_steps(schedule.out, true);
  add_steps(schedule.in, false);
  for (std::int32_t lane = 0; lane < 3; ++lane) {
    // Who waits for a window to come, and to be confirmed: what passes it on.
    const std::vector<WindowStep>& steps = at(schedule.out, lane).steps;
    for (std::uint32_t i = 0; i < steps.size(); ++i) {
      const StepId feed = steps[i].feed;
      if (feed.lane >= 0) at(forwards_, feed.lane)[feed.index].push_back({lane, i});
    }
  }
  stale_.reserve(2 * peers_.size());
}

/// Lanes are in order, and a stream takes from several: it is put in order again.
void Confirmations::add_steps(const Lanes& lanes, bool is_out) {
  for (std::int32_t lane = 0; lane < 3; ++lane) {
    const std::vector<WindowStep>& steps = at(lanes, lane).steps;
    num_windows_ += static_cast<std::int64_t>(steps.size());
    at(is_out ? is_given_ : has_arrived_, lane).resize(steps.size());
    if (!is_out) at(number_, lane).resize(steps.size());
    if (!is_out) at(forwards_, lane).resize(steps.size());
    for (std::uint32_t i = 0; i < steps.size(); ++i) {
      Peer& peer = peers_[control_->index_of(steps[i].peer)];
      Stream& stream = (is_out ? peer.out : peer.in)[kind_of(steps[i])];
      stream.steps.push_back({lane, i});
      if (!is_out || lane != kMappedLane) continue;
      stream.lent.push_back(i);
      ++num_windows_;  // counted again: it is to be read, too
    }
  }
  const auto step_of = [&](StepId id) -> const WindowStep& { return at(lanes, id.lane).steps[id.index]; };
  for (Peer& peer : peers_) {
    for (Stream& stream : is_out ? peer.out : peer.in) {
      std::sort(stream.steps.begin(), stream.steps.end(),
                [&](StepId a, StepId b) { return step_of(a).key() < step_of(b).key(); });
      for (std::uint32_t i = 0; i < stream.steps.size() && !is_out; ++i) {
        at(number_, stream.steps[i].lane)[stream.steps[i].index] = i;
      }
    }
  }
}

void Confirmations::begin() {
  for (Flags* flags : {&is_given_, &has_arrived_}) {
    for (std::vector<bool>& lane : *flags) lane.assign(lane.size(), false);
  }
  for (Peer& peer : peers_) {
    for (std::size_t i = 0; i < 2; ++i) {
      peer.out[i].num_confirmed = peer.in[i].num_confirmed = 0;
      peer.out[i].num_read = 0;
      peer.out[i].is_stale = false;
    }
  }
  num_open_ = num_windows_;
  stale_.clear();
}

void Confirmations::open() {
  const std::vector<WindowStep>& lent = schedule_.out[kMappedLane].steps;
  for (std::uint32_t i = 0; i < lent.size(); ++i) {
    if (lent[i].feed.lane < 0) is_ready({kMappedLane, i});
  }
}

void Confirmations::complete(const WindowStep& step) {
  for (const std::int32_t position : schedule_.work_of(step)) groups_->complete(position);
}

bool Confirmations::is_confirmed(StepId id) const {
  const WindowStep& step = incoming(id);
  const Stream& stream = peers_[control_->index_of(step.peer)].in[kind_of(step)];
  return at(number_, id.lane)[id.index] < stream.num_confirmed;
}

/// A group counts a window once, when it is both here and confirmed, whichever comes last: here, or in adopt().
void Confirmations::arrived(StepId id) {
  at(has_arrived_, id.lane)[id.index] = true;
  if (is_confirmed(id)) complete(incoming(id));
  for (const StepId forward : at(forwards_, id.lane)[id.index]) {
    if (forward.lane == kMappedLane) is_ready(forward);
  }
}

void Confirmations::sent(StepId id) {
  is_ready(id);
}

void Confirmations::is_ready(StepId id) {
  at(is_given_, id.lane)[id.index] = true;
  look_at(id);
}

/// This window may be what its stream waits for.
void Confirmations::look_at(StepId id) {
  const WindowStep& step = outgoing(id);
  const StreamId stream{control_->index_of(step.peer), kind_of(step)};
  if (!std::exchange(peers_[stream.peer].out[stream.kind].is_stale, true)) stale_.push_back(stream);
}

void Confirmations::adopt(Stream* stream, std::int64_t num_confirmed) {
  const std::size_t wanted = at_most(num_confirmed, stream->steps.size());
  while (stream->num_confirmed < wanted) {
    const StepId id = stream->steps[stream->num_confirmed++];
    --num_open_;
    for (const StepId forward : at(forwards_, id.lane)[id.index]) look_at(forward);
    if (has_arrived(id)) complete(incoming(id));
  }
}

/// Not past what was confirmed to the peer: it cannot have read more.
void Confirmations::adopt_read(Stream* stream, std::int64_t num_read) {
  const std::size_t wanted = at_most(num_read, stream->lent.size());
  while (stream->num_read < wanted) {
    const std::uint32_t index = stream->lent[stream->num_read];
    if (!is_given_[kMappedLane][index]) return;
    ++stream->num_read;
    --num_open_;
    complete(outgoing({kMappedLane, index}));
  }
}

void Confirmations::adopt(std::size_t peer) {
  const Snapshot& heard = control_->heard(peer);
  for (std::size_t i = 0; i < 2; ++i) {
    adopt(&peers_[peer].in[i], heard.num_confirmed[i]);
    adopt_read(&peers_[peer].out[i], heard.num_read[i]);
  }
}

/// Goes on from the first window that is not confirmed, as far as windows may be. One that may not holds up those
/// behind it, though their sends may have ended: a number says all that a list of windows would, in 8 bytes.
void Confirmations::confirm(StreamId id) {
  Stream& stream = peers_[id.peer].out[id.kind];
  stream.is_stale = false;
  const std::size_t before = stream.num_confirmed;
  while (stream.has_open()) {
    const StepId next = stream.steps[stream.num_confirmed];
    const StepId feed = outgoing(next).feed;
    if (!at(is_given_, next.lane)[next.index] || (feed.lane >= 0 && !is_confirmed(feed))) break;
    ++stream.num_confirmed;
    --num_open_;
  }
  if (stream.num_confirmed > before) {
    control_->confirm(id.peer, id.kind, static_cast<std::int64_t>(stream.num_confirmed));
  }
}

void Confirmations::confirm() {
  for (const StreamId id : stale_) confirm(id);
  stale_.clear();
}

std::vector<std::int32_t> Confirmations::senders() const {
  std::vector<std::int32_t> ranks;
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    if (!peers_[p].in[0].steps.empty() || !peers_[p].in[1].steps.empty()) ranks.push_back(control_->peers()[p]);
  }
  return ranks;
}

bool Confirmations::awaits(std::size_t peer) const {
  return peers_[peer].in[0].has_open() || peers_[peer].in[1].has_open();
}

bool Confirmations::owes(std::size_t peer) const {
  return peers_[peer].out[0].has_open() || peers_[peer].out[1].has_open();
}

bool Confirmations::lends_to(std::size_t peer) const {
  const std::array<Stream, 2>& out = peers_[peer].out;
  return out[0].num_read < out[0].lent.size() || out[1].num_read < out[1].lent.size();
}

}  // namespace reshard
