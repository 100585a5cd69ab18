// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "src/transport/tcp_handshake.h"

namespace reshard {

/// The door of the rendezvous: who connects waits here until he has proved that he knows the secret. Strangers cost
/// little: a few bytes each, one second at most while they are silent, and never more than kMostStrangers of them, the
/// oldest silent one giving way to the next. A rank that loses its place to them simply tries again.
///
/// Owned by rank 0 from the start until the rendezvous is complete, and used under its lock. A stranger goes from
/// silent (no hello) to challenged (hello, waiting for the proof) and then leaves as a newcomer, or is dropped.
class TcpLobby {
 public:
  // A quarter of the 1024 descriptors that a process may usually have: the rest is for the ranks.
  static constexpr std::size_t kMostStrangers = 256;
  static constexpr auto kPatienceForHello = std::chrono::seconds(1);
  static constexpr auto kPatienceForProof = std::chrono::seconds(5);  // a rank on a busy machine may be slow

  /// Keys of the poller from here on belong to the lobby.
  static constexpr std::uint64_t kFirstKey = std::uint64_t{1} << 32;

  TcpLobby(Fd listener, const Secret& secret, Poller* poller);
  ~TcpLobby();
  TcpLobby(const TcpLobby&) = delete;
  TcpLobby& operator=(const TcpLobby&) = delete;

  struct Newcomer {
    std::unique_ptr<Channel> channel;
    Hello hello;
  };
  /// There is news of this key of the lobby's: returns who has proved himself thereby.
  std::vector<Newcomer> serve(std::uint64_t key);

  /// Sends those away whose time is over.
  void expire();

  /// The last connection could not be accepted: no descriptor was left, and no stranger there who could give his.
  bool is_short_of_fds() const { return is_short_of_fds_; }

 private:
  struct Stranger {
    std::unique_ptr<Channel> channel;
    std::chrono::steady_clock::time_point since;
    std::optional<Hello> hello;
    std::uint64_t root_nonce = 0;
  };
  using Strangers = std::map<std::uint64_t, Stranger>;  // by key: the oldest first

  void accept(std::vector<Newcomer>* newcomers);
  void listen_to(Strangers::iterator stranger, std::vector<Newcomer>* newcomers);
  bool answer(Stranger* stranger, const Frame& frame) const;
  bool drop_oldest();
  Strangers::iterator drop(Strangers::iterator stranger);

  Fd listener_;
  const Secret secret_;
  Poller* const poller_;
  Strangers strangers_;
  std::uint64_t next_key_ = kFirstKey + 1;
  bool is_short_of_fds_ = false;
};

}  // namespace reshard
