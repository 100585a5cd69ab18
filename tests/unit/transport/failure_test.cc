// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every transport must do when a peer is late, leaves, or dies.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "tests/unit/transport/conformance.h"

namespace reshard::test {
namespace {

constexpr std::int64_t kShortUs = 200'000;

class FailureConformance : public Conformance {};
INSTANTIATE_TEST_SUITE_P(Transports, FailureConformance, every_transport(2), conformance_name);

bool names_rank(const Status& status, std::int32_t rank) {
  return status.message().find(fmt::format("rank {}", rank)) != std::string::npos;
}

// All ranks but `late` give up on an all-gather that it comes to only afterwards; the next one works again.
Verdict allgather_without(Transport& t, std::int32_t late) {
  RESHARD_REQUIRE_HOLDS(barrier(t));
  if (t.rank() == late) std::this_thread::sleep_for(std::chrono::microseconds(3 * kShortUs));
  const auto blobs = t.allgather({}, Deadline(t.rank() == late ? kPatienceUs : kShortUs));
  RESHARD_REQUIRE(blobs.status().code() == RESHARD_ERR_TIMEOUT);
  RESHARD_REQUIRE(names_rank(blobs.status(), late));
  RESHARD_REQUIRE_OK(t.health());
  return barrier(t);
}

TEST_P(FailureConformance, LatePeerEndsAnAllgatherInATimeoutThatNamesIt) {
  run([](Transport& t) { return allgather_without(t, t.num_ranks() - 1); });
}

TEST_P(FailureConformance, LateRankZeroEndsAnAllgatherInATimeoutThatNamesIt) {
  run([](Transport& t) { return allgather_without(t, 0); });
}

// Every other rank exchanges messages while the last one has left already.
TEST_P(FailureConformance, RankThatLeavesDoesNotDisturbTheOthers) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 1'000'000;
    const std::int32_t last = t.num_ranks() - 1;
    // Everybody has talked to it, so that there are connections to lose.
    const auto hello = pattern(100, t.rank(), last);
    std::vector<Request> requests(static_cast<std::size_t>(t.num_ranks()) + 1);
    std::vector<GuardedBuffer> hellos(static_cast<std::size_t>(t.num_ranks()), GuardedBuffer(100));
    RESHARD_REQUIRE_OK(t.send(last, 0, hello.data(), hello.size(), &requests.back()));
    for (std::size_t peer = 0; t.rank() == last && peer < hellos.size(); ++peer) {
      RESHARD_REQUIRE_OK(t.recv(static_cast<std::int32_t>(peer), 0, hellos[peer].data(), 100, &requests[peer]));
    }
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    RESHARD_REQUIRE_HOLDS(barrier(t));
    if (t.rank() == last) return {};
    const std::int32_t next = (t.rank() + 1) % last;
    const std::int32_t previous = (t.rank() + last - 1) % last;
    for (std::uint64_t round = 0; round < 30; ++round) {
      const auto sent = pattern(kBytes, t.rank(), next, round);
      GuardedBuffer received(kBytes);
      std::array<Request, 2> exchange;
      RESHARD_REQUIRE_OK(t.send(next, 1, sent.data(), kBytes, &exchange[0]));
      RESHARD_REQUIRE_OK(t.recv(previous, 1, received.data(), kBytes, &exchange[1]));
      RESHARD_REQUIRE_HOLDS(await(t, exchange));
      RESHARD_REQUIRE(received.holds(pattern(kBytes, previous, t.rank(), round)));
      RESHARD_REQUIRE_OK(t.health());
    }
    // Only an all-gather needs it.
    const auto blobs = t.allgather({}, Deadline(kPatienceUs));
    RESHARD_REQUIRE(blobs.status().code() == RESHARD_ERR_PEER_FAILED);
    return {};
  });
}

// Rank 0, which all news pass through, is not in the library at all meanwhile. Then the last rank leaves, or dies, and
// all others must learn of it.
constexpr std::int64_t kLearnUs = 20'000'000;

Verdict learn_of_a_departure(Transport& t, const SharedCount& learnt) {
  RESHARD_REQUIRE_HOLDS(barrier(t));
  const std::int32_t last = t.num_ranks() - 1;
  if (t.rank() == last) return {};
  if (t.rank() == 0) RESHARD_REQUIRE(learnt.await(last - 1, 2 * kLearnUs));
  const Deadline deadline(kLearnUs);
  while (t.departed().empty() && !deadline.expired()) {
    RESHARD_REQUIRE_OK(t.health());
    if (!t.progress()) t.idle();
  }
  RESHARD_REQUIRE(t.departed().size() == 1 && t.departed()[0] == last);
  learnt.add_one();
  if (t.rank() != 0) RESHARD_REQUIRE(learnt.await(last));
  return {};
}

TEST_P(FailureConformance, RanksLearnWhoLeftWhileRankZeroIsBusy) {
  if (num_ranks() < 3) GTEST_SKIP() << "takes rank 0, one that leaves, and one that learns of it";
  const SharedCount learnt;
  run([&](Transport& t) { return learn_of_a_departure(t, learnt); });
}

#ifdef RESHARD_HAVE_UCX
// A thread cannot die alone, so this is for processes.
class DeathConformance : public Conformance {
 protected:
  // The victim dies with messages of every kind open towards it; each survivor must learn it from health().
  void kill_rank(std::int32_t victim) const {
    const auto scenario = [victim](Transport& t) -> Verdict {
      constexpr std::size_t kBytes = 1'000'000;
      struct Open {
        std::vector<std::byte> sent;
        std::vector<std::byte> received = std::vector<std::byte>(kBytes);
        std::array<Request, 3> requests;
      };
      const auto open = std::make_shared<Open>();
      auto& [sent, received, requests] = *open;
      sent = pattern(kBytes, t.rank(), victim);
      RESHARD_REQUIRE_OK(t.send(victim, 0, sent.data(), 100, &requests[0]));
      RESHARD_REQUIRE_HOLDS(barrier(t));
      RESHARD_REQUIRE_OK(t.send(victim, 1, sent.data(), kBytes, &requests[1]));
      RESHARD_REQUIRE_OK(t.recv(victim, 1, received.data(), kBytes, &requests[2]));
      if (t.rank() == victim) kill(getpid(), SIGKILL);
      const Deadline deadline(kPatienceUs);
      while (t.health().ok() && !deadline.expired()) {
        if (!t.progress()) t.idle();
      }
      RESHARD_REQUIRE(t.health().code() == RESHARD_ERR_PEER_FAILED);
      RESHARD_REQUIRE(names_rank(t.health(), victim));
      const auto blobs = t.allgather({}, Deadline(kPatienceUs));
      RESHARD_REQUIRE(blobs.status().code() == RESHARD_ERR_PEER_FAILED);
      for (Request& request : requests) {
        if (!t.cancel(&request)) t.keep(open);
      }
      return {};
    };
    run(scenario, {victim});
  }
};
std::vector<ConformanceCase> worlds_with_deaths() {
  std::vector<ConformanceCase> cases;
  for (const Kind kind : {Kind::kUcx, Kind::kUcxTcp}) {
    std::vector<std::int32_t> worlds = worlds_of(kind);
    worlds.push_back(2);  // for what happens between two ranks depends on what carries their messages
    for (const std::int32_t num_ranks : std::set<std::int32_t>(worlds.begin(), worlds.end())) {
      if (num_ranks > 1) cases.emplace_back(kind, num_ranks);
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Transports, DeathConformance, testing::ValuesIn(worlds_with_deaths()), conformance_name);

/// Rank 1 stops while rank 0 has messages of both directions with it under way. Rank 0 gets all of them back within the
/// budget, its memory is left alone when rank 1 goes on, and both exchange messages again.
Verdict take_back_from_a_stopped_peer(Transport& t) {
  constexpr std::size_t kBytes = 8'000'000;
  constexpr std::size_t kMessages = 8;
  const std::int32_t peer = 1 - t.rank();
  const pid_t pid = getpid();
  std::vector<std::byte> mine(sizeof(pid));
  std::memcpy(mine.data(), &pid, sizeof(pid));
  const auto pids = t.allgather(mine, Deadline(kPatienceUs));
  RESHARD_REQUIRE_OK(pids);
  struct Stuck {
    std::array<Request, 2 * kMessages> requests;
    std::vector<std::byte> sent = std::vector<std::byte>(kMessages * kBytes, std::byte{1});
    std::vector<std::byte> received = std::vector<std::byte>(kMessages * kBytes, std::byte{2});
  };
  const auto stuck = std::make_shared<Stuck>();
  std::vector<Request*> all;
  for (std::size_t i = 0; i < kMessages; ++i) {
    RESHARD_REQUIRE_OK(t.recv(peer, 1, stuck->received.data() + i * kBytes, kBytes, &stuck->requests[2 * i]));
    RESHARD_REQUIRE_OK(t.send(peer, 1, stuck->sent.data() + i * kBytes, kBytes, &stuck->requests[2 * i + 1]));
    all.insert(all.end(), {&stuck->requests[2 * i], &stuck->requests[2 * i + 1]});
  }
  if (t.rank() == 0) {
    while (stuck->received[0] == std::byte{2} && stuck->requests[0].pending()) t.progress();
    pid_t other = 0;
    std::memcpy(&other, (*pids)[1].data(), sizeof(other));
    kill(other, SIGSTOP);
    const auto begin = std::chrono::steady_clock::now();
    const bool is_back = t.cancel_all(all, Deadline(kShortUs / 4));
    const auto took = std::chrono::steady_clock::now() - begin;
    std::fill(stuck->received.begin(), stuck->received.end(), std::byte{3});
    kill(other, SIGCONT);
    // Far above the budget: the cores are shared.
    RESHARD_REQUIRE(took < std::chrono::seconds(5));
    RESHARD_REQUIRE(is_back || !t.takes_back_sends(peer, MemorySpace::kHost) || !t.takes_back_receives(peer));
    if (!is_back) t.keep(stuck);
    for (const Deadline later(2 * kShortUs); !later.expired();) t.progress();
    const std::byte* bytes = stuck->received.data();
    const bool is_left_alone =
        bytes[0] == std::byte{3} && std::memcmp(bytes, bytes + 1, stuck->received.size() - 1) == 0;
    RESHARD_REQUIRE(!is_back || is_left_alone);
    for (const Request* request : all) RESHARD_REQUIRE(!is_back || !request->pending());
  } else {
    for (const Deadline later(3 * kShortUs); !later.expired();) t.progress();
    if (!t.cancel_all(all, Deadline(kShortUs / 4))) t.keep(stuck);
  }
  RESHARD_REQUIRE_HOLDS(barrier(t));
  t.discard(peer, 1);
  RESHARD_REQUIRE_HOLDS(barrier(t));
  for (std::uint64_t round = 0; round < 3; ++round) {
    const auto sent = pattern(kBytes, t.rank(), peer, round);
    GuardedBuffer received(kBytes);
    std::array<Request, 2> exchange;
    RESHARD_REQUIRE_OK(t.recv(peer, 2, received.data(), kBytes, &exchange[0]));
    RESHARD_REQUIRE_OK(t.send(peer, 2, sent.data(), kBytes, &exchange[1]));
    RESHARD_REQUIRE_HOLDS(await(t, exchange));
    RESHARD_REQUIRE(exchange[0].done() && exchange[1].done());
    RESHARD_REQUIRE(received.holds(pattern(kBytes, peer, t.rank(), round)));
  }
  return barrier(t);
}

TEST_P(DeathConformance, MessagesWithAStoppedPeerComeBackTogether) {
  if (num_ranks() == 2) run(take_back_from_a_stopped_peer);
}

TEST_P(DeathConformance, SurvivorsLearnOfADeadPeerWhileRankZeroIsBusy) {
  if (num_ranks() < 3) GTEST_SKIP() << "takes rank 0, one that dies, and one that learns of it";
  const SharedCount learnt;
  const std::int32_t last = num_ranks() - 1;
  const auto learn = [&](Transport& t) -> Verdict {
    RESHARD_REQUIRE_HOLDS(barrier(t));
    if (t.rank() == last) kill(getpid(), SIGKILL);
    if (t.rank() == 0) RESHARD_REQUIRE(learnt.await(last - 1, 2 * kLearnUs));
    const Deadline deadline(kLearnUs);
    while (t.health().ok() && !deadline.expired()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    RESHARD_REQUIRE(t.health().code() == RESHARD_ERR_PEER_FAILED);
    RESHARD_REQUIRE(names_rank(t.health(), last));
    learnt.add_one();
    return {};
  };
  run(learn, {last});
}

TEST_P(DeathConformance, SurvivorsLearnOfADeadPeer) {
  kill_rank(num_ranks() - 1);
}
TEST_P(DeathConformance, SurvivorsLearnOfADeadRankZero) {
  kill_rank(0);
}
#endif

}  // namespace
}  // namespace reshard::test
