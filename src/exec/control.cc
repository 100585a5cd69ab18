// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/control.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace reshard {

Control::Control(std::vector<std::int32_t> peers, std::uint64_t tag, Messenger* messenger)
    : ranks_(std::move(peers)), peers_(ranks_.size()), tag_(tag), messenger_(messenger) {
  unsent_.reserve(peers_.size());
  changed_.reserve(peers_.size());
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    peers_[i].out.is_mine = true;
    for (Letter* letter : {&peers_[i].in, &peers_[i].out}) {
      letter->peer = i;
      letter->tell = &ended_;
    }
    ended_.push(&peers_[i].in);  // the first receive is posted as every other: when the one before has ended
  }
}

bool Control::close() {
  std::vector<Request*> requests;
  for (Peer& peer : peers_) requests.insert(requests.end(), {&peer.in, &peer.out});
  return messenger_->cancel_all(requests, Deadline(1));
}

std::size_t Control::index_of(std::int32_t rank) const {
  return static_cast<std::size_t>(std::lower_bound(ranks_.begin(), ranks_.end(), rank) - ranks_.begin());
}

bool Control::has(std::int32_t rank) const {
  return std::binary_search(ranks_.begin(), ranks_.end(), rank);
}

/// What a peer said of this run before this rank began it was kept (later), so a fast peer need not say it again.
void Control::begin(std::int64_t run) {
  run_ = run;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    // A peer that was not told that the last run is over is told of the next, and draws its conclusion.
    peer.is_unsent = (peer.is_unsent || peer.out.failed()) && peer.mine.says(Snapshot::kAbandoned);
    if (peer.out.failed()) peer.out.reset();
    peer.mine = {.run = run};
    peer.heard = peer.later.run == run ? peer.later : Snapshot{};
    if (peer.is_unsent) queue(i);
    count_unflushed(i);
    note_change(i);
  }
}

void Control::note_change(std::size_t peer) {
  if (!std::exchange(peers_[peer].is_changed, true)) changed_.push_back(peer);
}

void Control::take_changed(std::vector<std::size_t>* changed) {
  changed->clear();
  changed->swap(changed_);
  for (const std::size_t peer : *changed) peers_[peer].is_changed = false;
}

/// Something is to be sent to the peer.
void Control::queue(std::size_t index) {
  Peer& peer = peers_[index];
  peer.is_unsent = true;
  if (!std::exchange(peer.is_queued, true)) unsent_.push_back(index);
  count_unflushed(index);
}

/// Brings num_unflushed_ up to date after any change of the peer.
void Control::count_unflushed(std::size_t index) {
  Peer& peer = peers_[index];
  const bool is_unflushed = !peer.has_left && (peer.is_unsent || peer.out.pending() || peer.out.failed());
  if (is_unflushed == peer.is_unflushed) return;
  peer.is_unflushed = is_unflushed;
  if (is_unflushed) {
    ++num_unflushed_;
  } else {
    --num_unflushed_;
  }
}

void Control::lose(std::size_t peer) {
  peers_[peer].has_left = true;
  count_unflushed(peer);
  note_change(peer);
}

/// A message is of this run, of one that this rank has not begun (the peer is faster), or of one that is over: that one
/// is dropped, but for a leave, which counts whenever it was said.
void Control::take(std::size_t index) {
  Peer& peer = peers_[index];
  const Snapshot& came = peer.in_buffer;
  if (came.says(Snapshot::kLeft)) peer.has_left = true;
  if (came.says(Snapshot::kAbandoned)) has_failed_ = true;
  if (came.run == run_) peer.heard = came;
  if (came.run > run_) peer.later = came;
  count_unflushed(index);
  note_change(index);
}

Status Control::listen(std::size_t index) {
  Peer& peer = peers_[index];
  peer.in.reset();
  Status status = messenger_->recv(ranks_[index], tag_, &peer.in_buffer, sizeof(Snapshot), &peer.in);
  if (!status.ok()) ended_.push(&peer.in);  // tried again with the next turn
  return status;
}

Status Control::receive(bool* moved) {
  while (Request* request = ended_.pop()) {
    const auto* letter = static_cast<const Letter*>(request);
    if (letter->pending()) continue;  // posted again since
    if (letter->is_mine) {
      if (letter->failed() || peers_[letter->peer].is_unsent) queue(letter->peer);
      count_unflushed(letter->peer);
      continue;
    }
    if (letter->done()) {
      take(letter->peer);
      *moved = true;
    }
    RESHARD_TRY(listen(letter->peer));
  }
  return {};
}

Status Control::post(std::size_t index) {
  Peer& peer = peers_[index];
  peer.out_buffer = peer.mine;
  peer.out.reset();
  RESHARD_TRY(messenger_->send(ranks_[index], tag_, &peer.out_buffer, sizeof(Snapshot), &peer.out));
  peer.is_unsent = false;
  count_unflushed(index);
  return {};
}

Status Control::send(bool* moved) {
  while (!unsent_.empty()) {
    const std::size_t index = unsent_.back();
    Peer& peer = peers_[index];
    // While the last message is under way it is left to that one's end, which receive() sees.
    if (peer.is_unsent && !peer.out.pending() && !peer.has_left) {
      RESHARD_TRY(post(index));
      *moved = true;
    }
    peer.is_queued = false;
    unsent_.pop_back();
  }
  return {};
}

void Control::say(std::size_t peer, std::int64_t flag) {
  peers_[peer].mine.flags |= flag;
  queue(peer);
}

void Control::confirm(std::size_t peer, std::size_t kind, std::int64_t num_confirmed) {
  peers_[peer].mine.num_confirmed[kind] = num_confirmed;
  queue(peer);
}

void Control::tell_read(std::size_t peer, std::size_t kind, std::int64_t num_read) {
  peers_[peer].mine.num_read[kind] = num_read;
  queue(peer);
}

/// What was said of this very run goes first: a peer that gave it up and then left has given it up.
Control::Loss Control::loss(std::size_t index) const {
  const Peer& peer = peers_[index];
  if (peer.heard.says(Snapshot::kAbandoned)) return Loss::kAbandoned;
  if (peer.has_left) return Loss::kLeft;
  return peer.later.run > run_ ? Loss::kMovedOn : Loss::kNone;
}

void Control::announce(std::int64_t flag, const Deadline& deadline) {
  for (std::size_t i = 0; i < peers_.size(); ++i) say(i, flag);
  // A peer that has left itself is told of this rank's leave all the same: it waits for that one message in order to
  // know that no other will come. The peers are told one by one, whatever becomes of the others; a failure here adds
  // nothing to the one at hand.
  const auto waits = [flag](const Peer& peer) { return peer.is_unsent && (!peer.has_left || flag == Snapshot::kLeft); };
  const auto send_some = [&] {
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      Peer& peer = peers_[i];
      if (waits(peer) && !peer.out.pending() && !post(i).ok()) peer.is_unsent = false;
    }
  };
  while (true) {
    send_some();
    if (std::none_of(peers_.begin(), peers_.end(), waits) || deadline.expired()) break;
    if (!messenger_->progress()) sched_yield();
  }
  // Behind an earlier message that the peer does not take: that one says nothing that this one does not.
  std::vector<Request*> stuck;
  for (Peer& peer : peers_) {
    if (waits(peer) && peer.out.pending()) stuck.push_back(&peer.out);
  }
  if (stuck.empty()) return;
  messenger_->cancel_all(stuck, Deadline(1));
  send_some();
}

std::vector<std::int32_t> Control::staying() const {
  std::vector<std::int32_t> ranks;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (!peers_[i].has_left) ranks.push_back(ranks_[i]);
  }
  return ranks;
}

}  // namespace reshard
