// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/tcp_lobby.h"

#include <algorithm>
#include <utility>

namespace reshard {

TcpLobby::TcpLobby(Fd listener, const Secret& secret, Poller* poller)
    : listener_(std::move(listener)), secret_(secret), poller_(poller) {
  poller_->add(listener_.get(), kFirstKey);
}

TcpLobby::~TcpLobby() {
  for (auto stranger = strangers_.begin(); stranger != strangers_.end();) stranger = drop(stranger);
  poller_->remove(listener_.get());
}

TcpLobby::Strangers::iterator TcpLobby::drop(Strangers::iterator stranger) {
  if (stranger->second.channel) poller_->remove(stranger->second.channel->fd());
  return strangers_.erase(stranger);
}

// The oldest of those who have not said who they are, or else the oldest: a rank that waits for our challenge is the
// last to suffer from a flood of silent connections.
bool TcpLobby::drop_oldest() {
  if (strangers_.empty()) return false;
  const auto is_silent = [](const auto& entry) { return !entry.second.hello; };
  const auto silent = std::find_if(strangers_.begin(), strangers_.end(), is_silent);
  drop(silent == strangers_.end() ? strangers_.begin() : silent);
  return true;
}

void TcpLobby::expire() {
  const auto now = std::chrono::steady_clock::now();
  // Keys grow with time, so that the map is in order of age and the first young one ends the search.
  for (auto it = strangers_.begin(); it != strangers_.end() && it->second.since + kPatienceForHello <= now;) {
    const bool is_late = !it->second.hello || it->second.since + kPatienceForProof <= now;
    it = is_late ? drop(it) : std::next(it);
  }
}

std::vector<TcpLobby::Newcomer> TcpLobby::serve(std::uint64_t key) {
  std::vector<Newcomer> newcomers;
  if (key == kFirstKey) {
    accept(&newcomers);
  } else if (const auto stranger = strangers_.find(key); stranger != strangers_.end()) {
    listen_to(stranger, &newcomers);
  }
  return newcomers;
}

void TcpLobby::accept(std::vector<Newcomer>* newcomers) {
  // More of them wait in the kernel until the next call, so that a flood does not keep rank 0 from its ranks.
  constexpr std::size_t kMostAtOnce = kMostStrangers;
  for (std::size_t i = 0; i < kMostAtOnce; ++i) {
    Accepted accepted = accept_from(listener_);
    // A descriptor has become free, so the connection that waits is tried again.
    if (accepted.is_short_of_fds && drop_oldest()) continue;
    is_short_of_fds_ = accepted.is_short_of_fds;
    if (!accepted.fd.valid()) return;
    if (strangers_.size() >= kMostStrangers) drop_oldest();
    const std::uint64_t key = next_key_++;
    if (!poller_->add(accepted.fd.get(), key)) continue;
    auto channel = std::make_unique<Channel>(std::move(accepted.fd), kMostHandshakeBytes);
    const auto stranger = strangers_.try_emplace(strangers_.end(), key);
    stranger->second = {std::move(channel), std::chrono::steady_clock::now(), std::nullopt, 0};
    // A rank has said hello by now: it does not even queue behind those who are silent.
    listen_to(stranger, newcomers);
  }
}

void TcpLobby::listen_to(Strangers::iterator it, std::vector<Newcomer>* newcomers) {
  Stranger& stranger = it->second;
  stranger.channel->pump();
  while (const Frame* frame = stranger.channel->front()) {
    const bool had_hello = stranger.hello.has_value();
    if (!answer(&stranger, *frame)) {
      drop(it);
      return;
    }
    stranger.channel->pop();
    // The answer was right and was the second one: he is one of us, and leaves the lobby with his connection.
    if (!had_hello) continue;
    poller_->remove(stranger.channel->fd());
    newcomers->push_back({std::move(stranger.channel), *stranger.hello});
    strangers_.erase(it);
    return;
  }
  if (stranger.channel->closed()) drop(it);
}

// False: this is no rank of ours.
bool TcpLobby::answer(Stranger* stranger, const Frame& frame) const {
  if (stranger->hello) {
    const auto proof = read_proof(frame);
    return proof && *proof == proof_of(Prover::kOtherRank, secret_, *stranger->hello, stranger->root_nonce);
  }
  stranger->hello = read_hello(frame);
  auto nonce = random_nonce();
  if (!stranger->hello || !nonce.ok()) return false;
  stranger->root_nonce = *nonce;
  stranger->channel->send(encode(challenge_frame(secret_, *stranger->hello, *nonce)));
  return true;
}

}  // namespace reshard
