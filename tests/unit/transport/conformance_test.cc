// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every transport must do with messages: one suite, instantiated per transport and number of ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>

#include "src/transport/post.h"
#include "tests/unit/transport/conformance.h"

namespace reshard::test {
namespace {

using Bytes = std::vector<std::byte>;

std::int32_t next_of(const Transport& t) {
  return (t.rank() + 1) % t.num_ranks();
}
std::int32_t previous_of(const Transport& t) {
  return (t.rank() + t.num_ranks() - 1) % t.num_ranks();
}

INSTANTIATE_TEST_SUITE_P(Transports, Conformance, every_transport(1), conformance_name);

TEST_P(Conformance, MessagesMatchBySourceAndTagInOrderOfPosting) {
  run([](Transport& t) -> Verdict {
    constexpr std::array<std::uint64_t, 3> kTags{0, 7, kMaxTag};
    constexpr std::size_t kRepeats = 3;
    constexpr std::size_t kBytes = 300;
    const auto num_ranks = static_cast<std::size_t>(t.num_ranks());
    std::vector<Request> requests(2 * num_ranks * kTags.size() * kRepeats);
    std::vector<GuardedBuffer> received;
    std::vector<Bytes> sent;
    std::vector<Bytes> expected;
    std::size_t next = 0;
    const auto salt = [](std::uint64_t tag, std::size_t repeat) { return tag % 1000 * 10 + repeat; };
    received.reserve(requests.size());
    sent.reserve(requests.size());
    // Even ranks post their receives first, odd ones their sends; the tags in opposite orders.
    for (int phase = 0; phase < 2; ++phase) {
      for (std::int32_t peer = 0; peer < t.num_ranks(); ++peer) {
        for (std::size_t i = 0; i < kTags.size() * kRepeats; ++i) {
          const std::size_t repeat = i / kTags.size();
          if ((t.rank() + phase) % 2 == 0) {
            const std::uint64_t tag = kTags[kTags.size() - 1 - i % kTags.size()];
            received.emplace_back(kBytes);
            expected.push_back(pattern(kBytes, peer, t.rank(), salt(tag, repeat)));
            RESHARD_REQUIRE_OK(t.recv(peer, tag, received.back().data(), kBytes, &requests[next++]));
          } else {
            const std::uint64_t tag = kTags[i % kTags.size()];
            sent.push_back(pattern(kBytes, t.rank(), peer, salt(tag, repeat)));
            RESHARD_REQUIRE_OK(t.send(peer, tag, sent.back().data(), kBytes, &requests[next++]));
          }
        }
      }
    }
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    for (const Request& request : requests) RESHARD_REQUIRE(request.done());
    for (std::size_t i = 0; i < received.size(); ++i) RESHARD_REQUIRE(received[i].holds(expected[i]));
    return barrier(t);
  });
}

TEST_P(Conformance, EverySizeArrivesWhole) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kMiB = std::size_t{1} << 20;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8191}, std::size_t{8192},
                                   std::size_t{8193}, std::size_t{65536}, kMiB + 1, 8 * kMiB}) {
      const Bytes sent = pattern(size, t.rank(), next_of(t), size);
      GuardedBuffer received(size);
      std::array<Request, 2> requests;
      RESHARD_REQUIRE_OK(t.send(next_of(t), 5, sent.data(), size, &requests[0]));
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 5, received.data(), size, &requests[1]));
      RESHARD_REQUIRE_HOLDS(await(t, requests));
      RESHARD_REQUIRE(requests[0].done() && requests[1].done());
      RESHARD_REQUIRE(received.holds(pattern(size, previous_of(t), t.rank(), size)));
    }
    return barrier(t);
  });
}

TEST_P(Conformance, ManyMessagesInFlightKeepTheirOrder) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kMessages = 500;
    constexpr std::size_t kBytes = 1000;
    std::vector<Bytes> sent;
    std::vector<GuardedBuffer> received(kMessages, GuardedBuffer(kBytes));
    std::vector<Request> requests(2 * kMessages);
    for (std::size_t i = 0; i < kMessages; ++i) {
      sent.push_back(pattern(kBytes, t.rank(), next_of(t), i));
      RESHARD_REQUIRE_OK(t.send(next_of(t), i % 2, sent.back().data(), kBytes, &requests[i]));
    }
    // The odd ones are asked for first.
    for (std::size_t k = 0; k < kMessages; ++k) {
      const std::size_t i = k < kMessages / 2 ? 2 * k + 1 : 2 * k - kMessages;
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), i % 2, received[i].data(), kBytes, &requests[kMessages + i]));
    }
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    for (std::size_t i = 0; i < kMessages; ++i) {
      RESHARD_REQUIRE(received[i].holds(pattern(kBytes, previous_of(t), t.rank(), i)));
    }
    return barrier(t);
  });
}

TEST_P(Conformance, AllToAllAgainAndAgain) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 100'000;
    const auto num_ranks = static_cast<std::size_t>(t.num_ranks());
    for (std::uint64_t round = 0; round < 5; ++round) {
      std::vector<Request> requests(2 * num_ranks);
      std::vector<Bytes> sent;
      std::vector<GuardedBuffer> received(num_ranks, GuardedBuffer(kBytes));
      for (std::size_t i = 0; i < num_ranks; ++i) {
        const auto peer = static_cast<std::int32_t>(i);
        sent.push_back(pattern(kBytes, t.rank(), peer, round));
        RESHARD_REQUIRE_OK(t.recv(peer, round, received[i].data(), kBytes, &requests[i]));
        RESHARD_REQUIRE_OK(t.send(peer, round, sent[i].data(), kBytes, &requests[num_ranks + i]));
      }
      RESHARD_REQUIRE_HOLDS(await(t, requests));
      for (std::size_t i = 0; i < num_ranks; ++i) {
        RESHARD_REQUIRE(received[i].holds(pattern(kBytes, static_cast<std::int32_t>(i), t.rank(), round)));
      }
    }
    return barrier(t);
  });
}

TEST_P(Conformance, MessageLongerThanItsBufferFailsTheReceiveAndNoOther) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t size : {std::size_t{100}, std::size_t{100'000}}) {
      for (const bool is_expected : {true, false}) {
        const Bytes sent = pattern(size, t.rank(), next_of(t));
        GuardedBuffer small(size - 1);
        GuardedBuffer whole(size);
        std::array<Request, 4> requests;
        const auto post_receives = [&]() -> Verdict {
          RESHARD_REQUIRE_OK(t.recv(previous_of(t), 1, small.data(), size - 1, &requests[0]));
          RESHARD_REQUIRE_OK(t.recv(previous_of(t), 1, whole.data(), size, &requests[1]));
          return {};
        };
        if (is_expected) RESHARD_REQUIRE_HOLDS(post_receives());
        RESHARD_REQUIRE_HOLDS(barrier(t));
        RESHARD_REQUIRE_OK(t.send(next_of(t), 1, sent.data(), size, &requests[2]));
        RESHARD_REQUIRE_OK(t.send(next_of(t), 1, sent.data(), size, &requests[3]));
        RESHARD_REQUIRE_HOLDS(barrier(t));
        if (!is_expected) RESHARD_REQUIRE_HOLDS(post_receives());
        RESHARD_REQUIRE_HOLDS(await(t, requests));
        RESHARD_REQUIRE(requests[0].failed() && requests[0].error == RESHARD_ERR_TRANSPORT);
        RESHARD_REQUIRE(small.guards_intact());
        RESHARD_REQUIRE(requests[1].done());
        RESHARD_REQUIRE(whole.holds(pattern(size, previous_of(t), t.rank())));
      }
    }
    return barrier(t);
  });
}

TEST_P(Conformance, LargeSendWaitsForItsReceive) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t size : {Transport::kMaxEagerBytes + 1, std::size_t{1} << 20}) {
      Bytes sent = pattern(size, t.rank(), next_of(t), 1);
      std::array<Request, 1> send;
      RESHARD_REQUIRE_OK(t.send(next_of(t), 9, sent.data(), size, &send[0]));
      for (int i = 0; i < 3; ++i) RESHARD_REQUIRE_HOLDS(barrier(t));
      for (int i = 0; i < 50; ++i) {
        if (!t.progress()) t.idle();
      }
      RESHARD_REQUIRE(send[0].pending());
      // Nothing of it lies elsewhere: what is received is what the memory holds now.
      std::ranges::copy(pattern(size, t.rank(), next_of(t), 2), sent.begin());
      RESHARD_REQUIRE_HOLDS(barrier(t));
      GuardedBuffer received(size);
      std::array<Request, 1> receive;
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 9, received.data(), size, &receive[0]));
      RESHARD_REQUIRE_HOLDS(await(t, receive));
      RESHARD_REQUIRE_HOLDS(await(t, send));
      RESHARD_REQUIRE(received.holds(pattern(size, previous_of(t), t.rank(), 2)));
    }
    return barrier(t);
  });
}

TEST_P(Conformance, CancelledReceiveLeavesItsMemoryAlone) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t size : {std::size_t{64}, std::size_t{200'000}}) {
      GuardedBuffer abandoned(size);
      const Bytes before(abandoned.data(), abandoned.data() + size);
      auto request = std::make_unique<Request>();
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 3, abandoned.data(), size, request.get()));
      RESHARD_REQUIRE(t.cancel(request.get()));
      RESHARD_REQUIRE(!request->pending());
      request.reset();
      RESHARD_REQUIRE_HOLDS(barrier(t));

      const Bytes sent = pattern(size, t.rank(), next_of(t));
      GuardedBuffer received(size);
      std::array<Request, 2> requests;
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 3, received.data(), size, &requests[0]));
      RESHARD_REQUIRE_OK(t.send(next_of(t), 3, sent.data(), size, &requests[1]));
      RESHARD_REQUIRE_HOLDS(await(t, requests));
      RESHARD_REQUIRE(received.holds(pattern(size, previous_of(t), t.rank())));
      RESHARD_REQUIRE(abandoned.holds(before));
    }
    return barrier(t);
  });
}

TEST_P(Conformance, AbandonedRequestsDoNotDisturbLaterOnesNorTeardown) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 100'000;
    struct Abandoned {
      Bytes bytes;
      Request send;
      Request receive;
    };
    const Bytes sent = pattern(kBytes, t.rank(), next_of(t));
    {
      auto abandoned = std::make_shared<Abandoned>();
      abandoned->bytes = sent;
      GuardedBuffer never(kBytes);
      RESHARD_REQUIRE_OK(t.send(next_of(t), 1, abandoned->bytes.data(), kBytes, &abandoned->send));
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 2, never.data(), kBytes, &abandoned->receive));
      RESHARD_REQUIRE_HOLDS(barrier(t));
      RESHARD_REQUIRE(t.cancel(&abandoned->receive));
      const bool is_back = t.cancel(&abandoned->send);
      RESHARD_REQUIRE(is_back != abandoned->send.pending());
      RESHARD_REQUIRE(is_back || !t.takes_back_sends(next_of(t), MemorySpace::kHost));
      if (!is_back) t.keep(abandoned);
      RESHARD_REQUIRE_HOLDS(barrier(t));
      t.discard(previous_of(t), 1);
    }
    GuardedBuffer received(kBytes);
    std::array<Request, 2> requests;
    RESHARD_REQUIRE_OK(t.recv(previous_of(t), 4, received.data(), kBytes, &requests[0]));
    RESHARD_REQUIRE_OK(t.send(next_of(t), 4, sent.data(), kBytes, &requests[1]));
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    RESHARD_REQUIRE(received.holds(pattern(kBytes, previous_of(t), t.rank())));
    return barrier(t);
  });
}

// What comes for a receive that was given up is thrown away by its tag, and nothing else is.
TEST_P(Conformance, DiscardDropsWhatNobodyAskedFor) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t size : {std::size_t{0}, std::size_t{40}, std::size_t{500}, std::size_t{100'000}}) {
      const Bytes sent = pattern(size, t.rank(), next_of(t));
      std::array<Request, 4> requests;
      for (std::size_t i = 0; i < 3; ++i) {
        RESHARD_REQUIRE_OK(t.send(next_of(t), i == 1 ? 8 : 7, sent.data(), size, &requests[i]));
      }
      std::int32_t num_discarded = 0;
      const Deadline deadline(kPatienceUs);
      while (num_discarded < 2 && !deadline.expired()) {
        if (!t.progress()) t.idle();
        num_discarded += t.discard(previous_of(t), 7);
      }
      RESHARD_REQUIRE(num_discarded == 2);
      GuardedBuffer received(size);
      RESHARD_REQUIRE_OK(t.recv(previous_of(t), 8, received.data(), size, &requests[3]));
      RESHARD_REQUIRE_HOLDS(await(t, requests));
      for (const Request& request : requests) RESHARD_REQUIRE(request.done());
      RESHARD_REQUIRE(received.holds(pattern(size, previous_of(t), t.rank())));
      RESHARD_REQUIRE(t.discard(previous_of(t), 7) == 0);
      RESHARD_REQUIRE_HOLDS(barrier(t));  // before anybody sends the next
    }
    return barrier(t);
  });
}

TEST_P(Conformance, BadArgumentsAreRefusedAndLeaveTheRequestIdle) {
  run([](Transport& t) -> Verdict {
    std::byte byte{};
    Request request;
    for (const std::int32_t peer : {-1, t.num_ranks()}) {
      RESHARD_REQUIRE(t.send(peer, 0, &byte, 1, &request).code() == RESHARD_ERR_INVALID_ARGUMENT);
      RESHARD_REQUIRE(t.recv(peer, 0, &byte, 1, &request).code() == RESHARD_ERR_INVALID_ARGUMENT);
    }
    RESHARD_REQUIRE(t.send(t.rank(), kMaxTag + 1, &byte, 1, &request).code() == RESHARD_ERR_INVALID_ARGUMENT);
    RESHARD_REQUIRE(!request.pending());
    RESHARD_REQUIRE_OK(t.recv(t.rank(), 0, &byte, 1, &request));
    RESHARD_REQUIRE(t.recv(t.rank(), 0, &byte, 1, &request).code() == RESHARD_ERR_INVALID_STATE);
    RESHARD_REQUIRE(t.cancel(&request));
    return barrier(t);
  });
}

TEST_P(Conformance, AllgatherReturnsBlobsOfAnySizeInRankOrder) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t unit : {std::size_t{0}, std::size_t{13}, std::size_t{200'000}}) {
      const auto size_of = [&](std::int32_t rank) { return unit * static_cast<std::size_t>(t.num_ranks() - 1 - rank); };
      auto blobs = t.allgather(pattern(size_of(t.rank()), t.rank(), 0, unit), Deadline(kPatienceUs));
      RESHARD_REQUIRE_OK(blobs);
      RESHARD_REQUIRE(blobs->size() == static_cast<std::size_t>(t.num_ranks()));
      for (std::int32_t rank = 0; rank < t.num_ranks(); ++rank) {
        RESHARD_REQUIRE((*blobs)[static_cast<std::size_t>(rank)] == pattern(size_of(rank), rank, 0, unit));
      }
    }
    return {};
  });
}

TEST_P(Conformance, AllgatherProgressesTheMessagesOfOthers) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 4'000'000;
    const Bytes sent = pattern(kBytes, t.rank(), next_of(t));
    GuardedBuffer received(kBytes);
    std::array<Request, 2> requests;
    RESHARD_REQUIRE_OK(t.send(next_of(t), 0, sent.data(), kBytes, &requests[0]));
    RESHARD_REQUIRE_OK(t.recv(previous_of(t), 0, received.data(), kBytes, &requests[1]));
    // Rank 0 comes only when its own messages are through, for which it needs the others, who wait here already.
    if (t.rank() == 0) RESHARD_REQUIRE_HOLDS(await(t, requests));
    RESHARD_REQUIRE_HOLDS(barrier(t));
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    RESHARD_REQUIRE(received.holds(pattern(kBytes, previous_of(t), t.rank())));
    return barrier(t);
  });
}

}  // namespace
}  // namespace reshard::test
