// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/control.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace reshard {

Control::Control(std::vector<std::int32_t> peers, std::uint64_t tag, Transport* transport)
    : ranks_(std::move(peers)), peers_(ranks_.size()), tag_(tag), transport_(transport) {}

bool Control::close() {
  std::vector<Request*> requests;
  for (Peer& peer : peers_) requests.insert(requests.end(), {&peer.in, &peer.out});
  return transport_->cancel_all(requests, Deadline(1));
}

std::size_t Control::index_of(std::int32_t rank) const {
  return static_cast<std::size_t>(std::lower_bound(ranks_.begin(), ranks_.end(), rank) - ranks_.begin());
}

bool Control::has(std::int32_t rank) const {
  return std::binary_search(ranks_.begin(), ranks_.end(), rank);
}

void Control::begin(std::int64_t run) {
  run_ = run;
  for (Peer& peer : peers_) {
    // A peer that was not told that the last run is over is told of the next, and draws its conclusion.
    peer.is_unsent = peer.is_unsent && peer.mine.says(Snapshot::kAbandoned);
    peer.mine = {.run = run};
    peer.heard = peer.later.run == run ? peer.later : Snapshot{};
  }
}

void Control::take(Peer* peer) const {
  const Snapshot& came = peer->in_buffer;
  if (came.says(Snapshot::kLeft)) peer->has_left = true;
  if (came.run == run_) peer->heard = came;
  if (came.run > run_) peer->later = came;
}

Status Control::receive(bool* moved) {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    if (peer.in.pending()) continue;
    if (peer.in.done()) {
      take(&peer);
      *moved = true;
    }
    peer.in = {};
    RESHARD_TRY(transport_->recv(ranks_[i], tag_, &peer.in_buffer, sizeof(Snapshot), &peer.in));
  }
  return {};
}

Status Control::post(std::size_t index) {
  Peer& peer = peers_[index];
  peer.out_buffer = peer.mine;
  peer.out = {};
  RESHARD_TRY(transport_->send(ranks_[index], tag_, &peer.out_buffer, sizeof(Snapshot), &peer.out));
  peer.is_unsent = false;
  return {};
}

Status Control::send(bool* moved) {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    if (peer.out.failed()) peer.is_unsent = true;
    if (!peer.is_unsent || peer.out.pending() || peer.has_left) continue;
    RESHARD_TRY(post(i));
    *moved = true;
  }
  return {};
}

void Control::say(std::size_t peer, std::int64_t flag) {
  peers_[peer].mine.flags |= flag;
  peers_[peer].is_unsent = true;
}

void Control::confirm(std::size_t peer, std::size_t lane, std::int64_t num_confirmed) {
  peers_[peer].mine.num_confirmed[lane] = num_confirmed;
  peers_[peer].is_unsent = true;
}

Control::Loss Control::loss(std::size_t index) const {
  const Peer& peer = peers_[index];
  if (peer.heard.says(Snapshot::kAbandoned)) return Loss::kAbandoned;
  if (peer.has_left) return Loss::kLeft;
  return peer.later.run > run_ ? Loss::kMovedOn : Loss::kNone;
}

bool Control::is_flushed() const {
  return std::all_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
    return peer.has_left || (!peer.is_unsent && !peer.out.pending() && !peer.out.failed());
  });
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
    if (!transport_->progress()) sched_yield();
  }
  // Behind an earlier message that the peer does not take: that one says nothing that this one does not.
  std::vector<Request*> stuck;
  for (Peer& peer : peers_) {
    if (waits(peer) && peer.out.pending()) stuck.push_back(&peer.out);
  }
  if (stuck.empty()) return;
  transport_->cancel_all(stuck, Deadline(1));
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
