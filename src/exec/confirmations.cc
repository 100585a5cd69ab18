// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/confirmations.h"

#include <algorithm>
#include <utility>

namespace reshard {
namespace {

// By what the message is, and not by the lane that this rank keeps it in: the peer may have folded its lanes into one,
// and both must count the same windows.
std::size_t stream_of(const MessageStep& step) {
  return static_cast<std::size_t>(step.is_relayed ? kRelayLane : kFirstLane);
}

}  // namespace

Confirmations::Confirmations(const Program& program, GroupCounter* groups, Control* control)
    : program_(program), groups_(groups), control_(control), peers_(control->peers().size()) {
  for (std::int32_t lane = 0; lane < 2; ++lane) {
    const auto index = static_cast<std::size_t>(lane);
    const std::vector<MessageStep>& sends = program.sends[index].steps;
    const std::vector<MessageStep>& receives = program.receives[index].steps;
    is_sent_[index].resize(sends.size());
    is_unpacked_[index].resize(receives.size());
    num_windows_ += static_cast<std::int64_t>(sends.size() + receives.size());
    for (std::size_t i = 0; i < sends.size(); ++i) {
      Stream& stream = peers_[control->index_of(sends[i].peer)].out[stream_of(sends[i])];
      stream.lane = lane;
      stream.steps.push_back(static_cast<std::uint32_t>(i));
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
      Stream& stream = peers_[control->index_of(receives[i].peer)].in[stream_of(receives[i])];
      stream.lane = lane;
      forwards_[index].emplace_back();
      number_[index].push_back(static_cast<std::uint32_t>(stream.steps.size()));
      stream.steps.push_back(static_cast<std::uint32_t>(i));
    }
  }
  // Who waits for a receive to be confirmed: the sends that pass its window on.
  for (std::int32_t lane = 0; lane < 2; ++lane) {
    const std::vector<MessageStep>& sends = at(program.sends, lane).steps;
    for (std::size_t i = 0; i < sends.size(); ++i) {
      if (sends[i].feed.lane >= 0) at(forwards_, sends[i].feed.lane)[sends[i].feed.index].push_back({lane, i});
    }
  }
  stale_.reserve(2 * peers_.size());
}

void Confirmations::begin() {
  for (Flags* flags : {&is_sent_, &is_unpacked_}) {
    for (std::vector<bool>& lane : *flags) lane.assign(lane.size(), false);
  }
  for (Peer& peer : peers_) {
    for (std::size_t i = 0; i < 2; ++i) {
      peer.out[i].num_confirmed = peer.in[i].num_confirmed = 0;
      peer.out[i].is_stale = false;
    }
  }
  num_open_ = num_windows_;
  stale_.clear();
}

void Confirmations::complete(const MessageStep& step) {
  for (const std::int32_t position : step.work) groups_->complete(position);
}

bool Confirmations::is_confirmed(MessageId receive) const {
  const MessageStep& step = at(program_.receives, receive.lane).steps[receive.index];
  const Stream& stream = peers_[control_->index_of(step.peer)].in[stream_of(step)];
  return at(number_, receive.lane)[receive.index] < stream.num_confirmed;
}

/// A group counts a window once, when it is both unpacked and confirmed, whichever comes last: here, or in adopt().
void Confirmations::unpacked(MessageId receive) {
  at(is_unpacked_, receive.lane)[receive.index] = true;
  if (is_confirmed(receive)) complete(at(program_.receives, receive.lane).steps[receive.index]);
}

void Confirmations::sent(MessageId send) {
  at(is_sent_, send.lane)[send.index] = true;
  look_at_send(send);
}

/// This window may be what its stream waits for.
void Confirmations::look_at_send(MessageId send) {
  const MessageStep& step = at(program_.sends, send.lane).steps[send.index];
  const StreamId id{control_->index_of(step.peer), stream_of(step)};
  if (!std::exchange(peers_[id.peer].out[id.lane].is_stale, true)) stale_.push_back(id);
}

/// The number comes from another process, and is not trusted: it never takes the stream back, or past its end.
void Confirmations::adopt(Stream* stream, std::int64_t num_confirmed) {
  const std::size_t wanted =
      std::min(static_cast<std::size_t>(std::max<std::int64_t>(num_confirmed, 0)), stream->steps.size());
  while (stream->num_confirmed < wanted) {
    const std::uint32_t index = stream->steps[stream->num_confirmed++];
    --num_open_;
    for (const MessageId send : at(forwards_, stream->lane)[index]) look_at_send(send);
    if (at(is_unpacked_, stream->lane)[index]) complete(at(program_.receives, stream->lane).steps[index]);
  }
}

void Confirmations::adopt(std::size_t peer) {
  for (std::size_t i = 0; i < 2; ++i) adopt(&peers_[peer].in[i], control_->heard(peer).num_confirmed[i]);
}

/// Goes on from the first window that is not confirmed, as far as windows may be. One that may not holds up those
/// behind it, though their sends may have ended: a number says all that a list of windows would, in 8 bytes.
void Confirmations::confirm(StreamId id) {
  Stream& stream = peers_[id.peer].out[id.lane];
  stream.is_stale = false;
  const std::size_t before = stream.num_confirmed;
  while (stream.has_open()) {
    const std::uint32_t index = stream.steps[stream.num_confirmed];
    const MessageId feed = at(program_.sends, stream.lane).steps[index].feed;
    if (!at(is_sent_, stream.lane)[index] || (feed.lane >= 0 && !is_confirmed(feed))) break;
    ++stream.num_confirmed;
    --num_open_;
  }
  if (stream.num_confirmed > before) {
    control_->confirm(id.peer, id.lane, static_cast<std::int64_t>(stream.num_confirmed));
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

}  // namespace reshard
