// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/bootstrap.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <barrier>
#include <cstring>
#include <thread>

#include "src/transport/socket.h"
#include "src/transport/tcp_star.h"
#include "tests/unit/transport/ranks.h"

namespace reshard::test {
namespace {

constexpr std::int64_t kBootUs = 300'000;
constexpr std::int64_t kLateUs = 1'000'000;  // enough for a rendezvous on a busy machine

using Joined = Result<std::unique_ptr<Bootstrap>>;
using Join = std::function<Joined(std::int32_t rank)>;

Verdict gathers_ranks(Bootstrap& bootstrap) {
  const Blob mine{static_cast<std::byte>(bootstrap.rank() + 1)};
  auto blobs = bootstrap.allgather(mine, Deadline(kPatienceUs), {});
  RESHARD_REQUIRE_OK(blobs);
  RESHARD_REQUIRE(blobs->size() == static_cast<std::size_t>(bootstrap.num_ranks()));
  for (std::size_t i = 0; i < blobs->size(); ++i) RESHARD_REQUIRE((*blobs)[i] == Blob{static_cast<std::byte>(i + 1)});
  RESHARD_REQUIRE_OK(bootstrap.health());
  return {};
}

// Joins num_ranks ranks, each on a thread, and lets them gather.
Verdict join_and_gather(std::int32_t num_ranks, const Join& join) {
  return run_threads(num_ranks, [&](std::int32_t rank) -> Verdict {
    auto bootstrap = join(rank);
    RESHARD_REQUIRE_OK(bootstrap);
    RESHARD_REQUIRE((*bootstrap)->rank() == rank && (*bootstrap)->num_ranks() == num_ranks);
    for (int i = 0; i < 3; ++i) RESHARD_REQUIRE_HOLDS(gathers_ranks(**bootstrap));
    return {};
  });
}

Join join_id(const reshard_unique_id_t& id, std::int32_t num_ranks, std::int64_t timeout_us = kPatienceUs) {
  return [=](std::int32_t rank) { return create_tcp_bootstrap(id, rank, num_ranks, Deadline(timeout_us)); };
}

class TcpBootstrap : public testing::TestWithParam<std::int32_t> {};
INSTANTIATE_TEST_SUITE_P(Ranks, TcpBootstrap, testing::Values(1, 2, 3, 8, 16));

TEST_P(TcpBootstrap, RanksOfAnIdGatherAgainAndAgain) {
  EXPECT_EQ(join_and_gather(GetParam(), join_id(new_id(), GetParam())), "");
}

TEST(BootstrapTest, IdTakesANamedAddressAndRefusesAForeignOne) {
  const auto id = create_unique_id("127.0.0.1");
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(join_and_gather(2, join_id(*id, 2)), "");
  const auto foreign = create_unique_id("192.0.2.77");  // reserved for documentation, so no interface has it
  ASSERT_FALSE(foreign.ok());
  EXPECT_NE(foreign.status().message().find("192.0.2.77"), std::string::npos) << foreign.status().message();
  EXPECT_EQ(create_unique_id("").status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(create_unique_id(std::string(200, 'x').c_str()).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(BootstrapTest, DamagedIdIsRefused) {
  reshard_unique_id_t id = new_id();
  id.data[0] ^= 1;
  EXPECT_EQ(join_id(id, 2)(1).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(BootstrapTest, IdIsGoodForOneRendezvous) {
  const reshard_unique_id_t id = new_id();
  EXPECT_EQ(join_and_gather(2, join_id(id, 2)), "");
  EXPECT_EQ(join_id(id, 2)(0).status().code(), RESHARD_ERR_INVALID_STATE);
  EXPECT_EQ(join_id(id, 2, kBootUs)(1).status().code(), RESHARD_ERR_TIMEOUT);
}

TEST(BootstrapTest, RanksOutsideTheWorldAreRefused) {
  const reshard_unique_id_t id = new_id();
  for (const auto& [rank, num_ranks] : {std::pair{-1, 2}, std::pair{2, 2}, std::pair{0, 0}, std::pair{0, 1 << 24}}) {
    EXPECT_EQ(create_tcp_bootstrap(id, rank, num_ranks, Deadline(kBootUs)).status().code(),
              RESHARD_ERR_INVALID_ARGUMENT);
  }
}

TEST(BootstrapTest, MissingRanksTimeOutOnAllOthersByName) {
  const reshard_unique_id_t id = new_id();
  const Verdict verdict = run_threads(5, [&](std::int32_t rank) -> Verdict {
    if (rank == 1 || rank == 3) return {};
    const auto joined = join_id(id, 5, kBootUs)(rank);
    RESHARD_REQUIRE(joined.status().code() == RESHARD_ERR_TIMEOUT);
    RESHARD_REQUIRE(joined.status().message().find("ranks 1, 3") != std::string::npos);
    return {};
  });
  EXPECT_EQ(verdict, "");
}

TEST(BootstrapTest, MissingRankZeroTimesOut) {
  const auto joined = join_id(new_id(), 2, kBootUs)(1);
  EXPECT_EQ(joined.status().code(), RESHARD_ERR_TIMEOUT);
  EXPECT_NE(joined.status().message().find("rank 0"), std::string::npos) << joined.status().message();
}

TEST(BootstrapTest, WrongSecretIsNotAdmittedAndDoesNoHarm) {
  const reshard_unique_id_t id = new_id();
  reshard_unique_id_t wrong = id;
  wrong.data[8] ^= 1;
  const Verdict verdict = run_threads(3, [&](std::int32_t rank) -> Verdict {
    if (rank == 2) {
      RESHARD_REQUIRE(join_id(wrong, 2, kBootUs)(1).status().code() == RESHARD_ERR_TIMEOUT);
      return {};
    }
    if (rank == 1) std::this_thread::sleep_for(std::chrono::microseconds(kBootUs));  // the wrong one comes first
    auto bootstrap = join_id(id, 2)(rank);
    RESHARD_REQUIRE_OK(bootstrap);
    return gathers_ranks(**bootstrap);
  });
  EXPECT_EQ(verdict, "");
}

TEST(BootstrapTest, StrangersDoNoHarm) {
  const reshard_unique_id_t id = new_id();
  const std::uint16_t port = port_of(id);
  ASSERT_NE(port, 0);
  std::vector<Fd> strangers;
  const auto intrude = [&](const std::string& bytes) {
    auto fd = connect_to("127.0.0.1", port, Deadline(kPatienceUs));
    ASSERT_TRUE(fd.ok()) << fd.status().message();
    ASSERT_EQ(send(fd->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    strangers.push_back(fd.take());
  };
  intrude("");                                   // says nothing
  intrude("GET / HTTP/1.1\r\nHost: x\r\n\r\n");  // is something else
  intrude(std::string(100'000, '\xff'));
  std::string huge("1RSH\1\0\0\0", 8);  // begins like one of us and announces a frame of 2^64 - 1 bytes
  huge += std::string(16, '\xff');
  intrude(huge);
  strangers.erase(strangers.begin() + 1);  // one hangs up
  EXPECT_EQ(join_and_gather(3, join_id(id, 3)), "");
}

TEST(BootstrapTest, SecondProcessWithTheSameRankIsRefused) {
  const reshard_unique_id_t id = new_id();
  std::atomic<int> num_refused = 0;
  const Verdict verdict = run_threads(4, [&](std::int32_t i) -> Verdict {
    const std::int32_t rank = std::min(i, 2);  // two of them say that they are rank 2
    // Rank 1 joins last, so that the rendezvous is open until both have met rank 0.
    while (rank == 1 && num_refused == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    auto bootstrap = join_id(id, 3)(rank);
    if (!bootstrap.ok()) {
      RESHARD_REQUIRE(bootstrap.status().code() == RESHARD_ERR_INVALID_ARGUMENT);
      RESHARD_REQUIRE(rank == 2);
      ++num_refused;
      return {};
    }
    return {};
  });
  EXPECT_EQ(verdict, "");
  EXPECT_EQ(num_refused, 1);
}

TEST(BootstrapTest, DifferentNumbersOfRanksFailOnBoth) {
  const reshard_unique_id_t id = new_id();
  const Verdict verdict = run_threads(2, [&](std::int32_t rank) -> Verdict {
    const auto joined = join_id(id, 2 + rank)(rank);
    RESHARD_REQUIRE(joined.status().code() == RESHARD_ERR_INVALID_ARGUMENT);
    RESHARD_REQUIRE(joined.status().message().find("3 ranks") != std::string::npos);
    return {};
  });
  EXPECT_EQ(verdict, "");
}

// One rank leaves in order while the others wait for something else: all learn of it, and nothing is broken.
TEST(BootstrapTest, EveryRankLearnsWhoHasLeft) {
  const reshard_unique_id_t id = new_id();
  for (const std::int32_t leaver : {2, 0}) {
    const reshard_unique_id_t own = leaver == 2 ? id : new_id();
    const Verdict verdict = run_threads(4, [&](std::int32_t rank) -> Verdict {
      auto bootstrap = join_id(own, 4)(rank);
      RESHARD_REQUIRE_OK(bootstrap);
      RESHARD_REQUIRE_HOLDS(gathers_ranks(**bootstrap));
      if (rank == leaver) return {};
      const Deadline deadline(kPatienceUs);
      while ((*bootstrap)->health().ok() && (*bootstrap)->departed().empty() && !deadline.expired()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      RESHARD_REQUIRE((*bootstrap)->departed().size() == 1 && (*bootstrap)->departed()[0] == leaver);
      if (leaver == 0) return {};
      // And an all-gather that needs it fails at once, for everybody.
      const auto blobs = (*bootstrap)->allgather({}, Deadline(kPatienceUs), {});
      RESHARD_REQUIRE(blobs.status().code() == RESHARD_ERR_PEER_FAILED);
      RESHARD_REQUIRE(blobs.status().message().find("rank 2") != std::string::npos);
      return {};
    });
    EXPECT_EQ(verdict, "") << leaver;
  }
}

TEST(BootstrapTest, ContributionThatIsTooLongFailsForAllAndNothingElse) {
  const reshard_unique_id_t id = new_id();
  const Verdict verdict = run_threads(3, [&](std::int32_t rank) -> Verdict {
    auto bootstrap = join_id(id, 3)(rank);
    RESHARD_REQUIRE_OK(bootstrap);
    for (const std::int32_t greedy : {0, 1}) {
      const Blob mine(rank == greedy ? kMostContributedBytes + 1 : 1);
      const auto blobs = (*bootstrap)->allgather(mine, Deadline(kPatienceUs), {});
      RESHARD_REQUIRE(blobs.status().code() == RESHARD_ERR_INVALID_ARGUMENT);
      RESHARD_REQUIRE_HOLDS(gathers_ranks(**bootstrap));
    }
    return {};
  });
  EXPECT_EQ(verdict, "");
}

TEST(BootstrapTest, LongWaitSaysForWhom) {
  // Both at once: of a rank that waits for a leaf, and of a leaf that waits for rank 0.
  std::string of_leaf;
  std::jthread leaf([&] {
    const Notice notice = [&](const std::string& text) { of_leaf = text; };
    EXPECT_FALSE(create_tcp_bootstrap(new_id(), 1, 2, Deadline(2'500'000), notice).ok());
  });
  const reshard_unique_id_t id = new_id();
  std::vector<std::string> notices(3);
  const Verdict verdict = run_threads(3, [&](std::int32_t rank) -> Verdict {
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2'500));
    const Notice notice = [&](const std::string& text) { notices[static_cast<std::size_t>(rank)] = text; };
    RESHARD_REQUIRE_OK(create_tcp_bootstrap(id, rank, 3, Deadline(kPatienceUs), notice));
    return {};
  });
  leaf.join();
  EXPECT_EQ(verdict, "");
  EXPECT_NE(notices[0].find("rank 0 of 3 waits for rank 1"), std::string::npos) << notices[0];
  EXPECT_NE(of_leaf.find("rank 1 of 2 waits for rank 0"), std::string::npos) << of_leaf;
}

// More than rank 0 listens to before they have proved who they are, so that some must come again. The descriptors of a
// process allow 400: two for each rank.
TEST(BootstrapTest, HundredsOfRanksMeetAndGather) {
  constexpr std::int32_t kNumRanks = 400;
  constexpr std::int64_t kLongUs = 5 * kPatienceUs;  // so many threads come late where other work keeps the cores
  const auto meet_and_gather = [](const reshard_unique_id_t& id, std::int32_t rank) -> Verdict {
    auto bootstrap = join_id(id, kNumRanks, kLongUs)(rank);
    RESHARD_REQUIRE_OK(bootstrap);
    for (int i = 0; i < 2; ++i) {
      const Blob mine(static_cast<std::size_t>(rank));
      const auto blobs = (*bootstrap)->allgather(mine, Deadline(kLongUs), {});
      RESHARD_REQUIRE_OK(blobs);
      for (std::size_t r = 0; r < blobs->size(); ++r) RESHARD_REQUIRE((*blobs)[r].size() == r);
    }
    return {};
  };
  EXPECT_EQ(run_apart([&] {
              const reshard_unique_id_t id = new_id();
              return run_threads(kNumRanks, [&](std::int32_t rank) { return meet_and_gather(id, rank); });
            }),
            "");
}

// An all-gather that runs through shared memory of the threads, as a caller would bring it.
struct ThreadAllgather {
  explicit ThreadAllgather(int num_ranks) : barrier(num_ranks), blobs(static_cast<std::size_t>(num_ranks)) {}
  std::barrier<> barrier;
  std::vector<std::string> blobs;
  std::vector<std::size_t> order;  // where each rank's bytes go

  struct Rank {
    ThreadAllgather* shared;
    std::size_t rank;
    int result = 0;
  };
  static int call(const void* in, void* out, std::size_t size_bytes, void* user) {
    auto* self = static_cast<Rank*>(user);
    ThreadAllgather& shared = *self->shared;
    shared.blobs[self->rank].assign(static_cast<const char*>(in), size_bytes);
    shared.barrier.arrive_and_wait();
    for (std::size_t i = 0; i < shared.blobs.size(); ++i) {
      const std::size_t place = shared.order.empty() ? i : shared.order[i];
      std::memcpy(static_cast<char*>(out) + place * size_bytes, shared.blobs[i].data(), size_bytes);
    }
    shared.barrier.arrive_and_wait();
    return self->result;
  }
};

Joined join_by_callback(ThreadAllgather::Rank* user, std::int32_t num_ranks, std::int64_t timeout_us = kPatienceUs) {
  Deadline deadline(timeout_us);
  return create_callback_bootstrap(ThreadAllgather::call, user, static_cast<std::int32_t>(user->rank), num_ranks,
                                   &deadline);
}

class CallbackBootstrap : public testing::TestWithParam<std::int32_t> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CallbackBootstrap, testing::Values(1, 2, 3, 8));

TEST_P(CallbackBootstrap, RanksOfACallbackGatherAgainAndAgain) {
  const std::int32_t num_ranks = GetParam();
  ThreadAllgather shared(num_ranks);
  const auto join = [&](std::int32_t rank) {
    ThreadAllgather::Rank user{&shared, static_cast<std::size_t>(rank)};
    return join_by_callback(&user, num_ranks);
  };
  EXPECT_EQ(join_and_gather(num_ranks, join), "");
}

TEST(BootstrapTest, FailingCallbackIsReportedWithItsResult) {
  ThreadAllgather shared(1);
  ThreadAllgather::Rank user{&shared, 0, 42};
  const auto joined = join_by_callback(&user, 1);
  EXPECT_EQ(joined.status().code(), RESHARD_ERR_TRANSPORT);
  EXPECT_NE(joined.status().message().find("42"), std::string::npos);
  Deadline deadline(kPatienceUs);
  EXPECT_EQ(create_callback_bootstrap(nullptr, nullptr, 0, 1, &deadline).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(BootstrapTest, CallbackThatMixesUpTheRanksIsRefused) {
  ThreadAllgather shared(2);
  shared.order = {1, 0};
  const Verdict verdict = run_threads(2, [&](std::int32_t rank) -> Verdict {
    ThreadAllgather::Rank user{&shared, static_cast<std::size_t>(rank)};
    const auto joined = join_by_callback(&user, 2);
    RESHARD_REQUIRE(joined.status().code() == RESHARD_ERR_INVALID_ARGUMENT);
    return {};
  });
  EXPECT_EQ(verdict, "");
}

// Both come to the callback at times of their own, the later one after the other's whole timeout.
TEST(BootstrapTest, TheWaitInTheCallbackIsNotTheRendezvous) {
  ThreadAllgather shared(2);
  const Verdict verdict = run_threads(2, [&](std::int32_t rank) -> Verdict {
    if (rank == 0) std::this_thread::sleep_for(std::chrono::microseconds(2 * kLateUs));
    ThreadAllgather::Rank user{&shared, static_cast<std::size_t>(rank)};
    RESHARD_REQUIRE_OK(join_by_callback(&user, 2, kLateUs));
    return {};
  });
  EXPECT_EQ(verdict, "");
}

TEST(BootstrapTest, ALeafWithoutTimeSaysThatItTriedNothing) {
  const Status status = create_tcp_bootstrap(new_id(), 1, 2, Deadline(0)).status();
  EXPECT_EQ(status.code(), RESHARD_ERR_TIMEOUT);
  EXPECT_NE(status.message().find("no attempt was made"), std::string::npos) << status.message();
}

// Two ports that follow each other and are free, as far as one can know.
std::uint16_t free_port_pair() {
  while (true) {
    auto first = listen_on("127.0.0.1", 0);
    const std::uint16_t port = first.ok() ? listening_port(first->get()) : 0;
    if (port != 0 && port < 65535 && listen_on("127.0.0.1", static_cast<std::uint16_t>(port + 1)).ok()) return port;
  }
}

TEST(BootstrapTest, LaunchedRanksFindTheFirstFreePort) {
  const std::uint16_t port = free_port_pair();
  const auto occupant = listen_on("127.0.0.1", port);  // takes connections and never answers
  ASSERT_TRUE(occupant.ok());
  const auto join = [&](std::int32_t rank) {
    return create_launch_bootstrap({rank, 3, {{"127.0.0.1"}, port, 2, {{1, 2345}}}, "by a test"},
                                   Deadline(kPatienceUs));
  };
  EXPECT_EQ(join_and_gather(3, join), "");
  EXPECT_EQ(join_and_gather(3, join), "");  // the place can be used again at once
}

TEST(BootstrapTest, RankZeroWithoutAFreePortSaysSo) {
  auto occupant = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(occupant.ok());
  const std::uint16_t port = listening_port(occupant->get());
  const auto joined = create_launch_bootstrap({0, 2, {{"127.0.0.1"}, port, 1, {}}, ""}, Deadline(kBootUs));
  EXPECT_EQ(joined.status().code(), RESHARD_ERR_TRANSPORT);
  EXPECT_NE(joined.status().message().find(std::to_string(port)), std::string::npos) << joined.status().message();
}

}  // namespace
}  // namespace reshard::test
