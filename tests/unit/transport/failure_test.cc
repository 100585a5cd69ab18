// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every transport must do when a peer is late, leaves, or dies.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
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
  if (t.rank() == late) std::this_thread::sleep_for(std::chrono::microseconds(5 * kShortUs));
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

#ifdef RESHARD_HAVE_UCX
// A thread cannot die alone, so this is for processes.
class DeathConformance : public Conformance {
 protected:
  // The victim dies with messages of every kind open towards it; each survivor must learn it from health().
  void kill_rank(std::int32_t victim) const {
    const auto scenario = [victim](Transport& t) -> Verdict {
      constexpr std::size_t kBytes = 1'000'000;
      auto sent = pattern(kBytes, t.rank(), victim);
      std::vector<std::byte> received(kBytes);
      std::array<Request, 3> requests;
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
      static std::vector<std::vector<std::byte>> kept;
      for (Request& request : requests) t.cancel(&request);
      kept.push_back(std::move(sent));
      kept.push_back(std::move(received));
      return {};
    };
    run(scenario, {victim});
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, DeathConformance,
                         testing::Combine(testing::Values(Kind::kUcx, Kind::kUcxTcp), testing::Values(2, 3, 8)),
                         conformance_name);

TEST_P(DeathConformance, SurvivorsLearnOfADeadPeer) {
  kill_rank(num_ranks() - 1);
}
TEST_P(DeathConformance, SurvivorsLearnOfADeadRankZero) {
  kill_rank(0);
}
#endif

}  // namespace
}  // namespace reshard::test
