// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A communicator on the doubles of CUDA and NCCL: ranks are threads, each on a device of its own. After every test the
// double must have seen no misuse, and no communicator be left.
#include "src/transport/nccl/comm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/transport/local.h"
#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"

namespace reshard {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kPatienceUs = 60'000'000;
constexpr std::int64_t kShortUs = 300'000;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The version of a library is asked when it is loaded, and a name is loaded once: so each version that tests need has
/// a name of its own for the same file.
std::string library_of(int version) {
  const std::string folder(NCCL_DOUBLE_FOLDER);
  if (version == 22809) return folder + "/libnccl.so.2";
  return folder + (version == 22907 ? "/./libnccl.so.2" : "/././libnccl.so.2");
}
/// Without ncclCommRevoke.
std::string first_library() {
  return std::string(NCCL_DOUBLE_FOLDER) + "/nccl_2_28_3/libnccl.so.2";
}
NcclOptions options_of(int version) {
  nccl_double_set_version(version);
  NcclOptions options;
  options.library = library_of(version);
  EXPECT_TRUE(NcclLibrary::load(options.library).ok());
  return options;
}

/// One rank at work.
struct Rank {
  std::int32_t number;
  Collective* collective;
  std::int32_t num_ranks;

  Result<std::unique_ptr<NcclComm>> make(NcclOptions options = {}, std::int64_t timeout_us = kPatienceUs,
                                         std::int32_t device = -1) const {
    if (options.library.empty()) options.library = library_of(22809);
    return NcclComm::create(collective, device < 0 ? number : device, options, Deadline(timeout_us));
  }
  std::int32_t peer(std::int32_t shift) const { return (number + shift + num_ranks) % num_ranks; }
  /// Until all ranks have come here.
  void meet() const { EXPECT_TRUE(collective->allgather({}, Deadline(kPatienceUs)).ok()); }
  std::vector<std::int32_t> others() const {
    std::vector<std::int32_t> list;
    for (std::int32_t shift = 1; shift < num_ranks; ++shift) list.push_back(peer(shift));
    return list;
  }
};

class NcclCommTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_double_clear();
    cuda_double_set_devices(8);
    nccl_double_clear();
    (void)options_of(22809);
  }
  void TearDown() override {
    cuda_double_clear();
    EXPECT_EQ(nccl_double_count().comms, 0);
    EXPECT_EQ(nccl_double_count().misuses, 0) << nccl_double_last_misuse();
    EXPECT_EQ(cuda_double_num_live(), 0);
  }
};

void run(std::int32_t num_ranks, const std::function<void(const Rank&)>& body) {
  auto world = create_local_transports(num_ranks).take();
  std::vector<std::thread> threads;
  for (std::int32_t r = 0; r < num_ranks; ++r) {
    threads.emplace_back([&, r] { body({r, world[static_cast<std::size_t>(r)].get(), num_ranks}); });
  }
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::byte> pattern(std::int32_t from, std::int32_t to, std::size_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  for (std::size_t i = 0; i < size_bytes; ++i) {
    bytes[i] = static_cast<std::byte>(31 * from + 7 * to + static_cast<std::int32_t>(i % 251) + 1);
  }
  return bytes;
}

/// Two messages to the next rank and two from the one before, of different sizes, one of them nothing: in one group.
void exchange_ring(const Rank& rank, NcclComm* comm) {
  const std::array<std::size_t, 2> sizes{100'003, 0};
  Stream stream = Stream::create(rank.number).take();
  DeviceMemory out = DeviceMemory::allocate(rank.number, sizes[0] + 1).take();
  DeviceMemory in = DeviceMemory::allocate(rank.number, sizes[0] + 1).take();
  const auto sent = pattern(rank.number, rank.peer(1), sizes[0]);
  ASSERT_TRUE(copy_and_wait(out.data(), sent.data(), sent.size(), stream).ok());
  std::vector<NcclOperation> operations;
  for (const std::size_t size : sizes) {
    const auto bytes = static_cast<std::int64_t>(size);
    operations.push_back({NcclOperation::Kind::kSend, rank.peer(1), out.data(), bytes});
    operations.push_back({NcclOperation::Kind::kReceive, rank.peer(-1), in.data(), bytes});
  }
  const Status queued = comm->exchange(operations, stream, Deadline(kPatienceUs));
  ASSERT_TRUE(queued.ok()) << queued.message();
  std::vector<std::byte> received(sizes[0]);
  ASSERT_TRUE(copy_and_wait(received.data(), in.data(), received.size(), stream).ok());
  EXPECT_EQ(received, pattern(rank.peer(-1), rank.number, sizes[0]));
  EXPECT_TRUE(comm->poll().ok());
}

TEST_F(NcclCommTest, AGroupMovesItsBytes) {
  for (const bool is_capturable : {false, true}) {
    run(5, [&](const Rank& rank) {
      auto comm = rank.make({.is_capturable = is_capturable});
      ASSERT_TRUE(comm.ok()) << comm.status().message();
      EXPECT_EQ((*comm)->is_capturable(), is_capturable);
      EXPECT_FALSE((*comm)->is_given());
      exchange_ring(rank, comm->get());
      exchange_ring(rank, comm->get());
      EXPECT_TRUE((*comm)->exchange({}, Stream::create(rank.number).take(), Deadline(1)).ok());
      EXPECT_FALSE((*comm)->is_given_up());
    });
    EXPECT_EQ(nccl_double_count().most_kernels, 1);
  }
}

TEST_F(NcclCommTest, OneRankExchangesWithItself) {
  run(1, [](const Rank& rank) {
    auto comm = rank.make();
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    exchange_ring(rank, comm->get());
  });
}

TEST_F(NcclCommTest, EveryGroupOfAWarmUpFitsOneKernel) {
  for (const int version : {22809, 22907}) {
    nccl_double_clear();
    const NcclOptions options = options_of(version);
    run(8, [&](const Rank& rank) {
      auto comm = rank.make(options);
      ASSERT_TRUE(comm.ok()) << comm.status().message();
      EXPECT_EQ((*comm)->library().version(), version);
      EXPECT_EQ((*comm)->max_group_operations(), version == 22809 ? 6 : 0);
      std::vector<std::int32_t> peers = rank.others();
      if (rank.number % 2 == 1) std::reverse(peers.begin(), peers.end());  // the order is nobody's business
      const Status warm = (*comm)->warm_up(peers, peers, rank.collective, Deadline(kPatienceUs));
      EXPECT_TRUE(warm.ok()) << warm.message();
    });
    EXPECT_EQ(nccl_double_count().sends, 8 * 7);
    if (version != 22809) continue;
    EXPECT_EQ(nccl_double_count().most_kernels, 1);
    EXPECT_LE(nccl_double_count().most_operations, 6);
  }
}

TEST_F(NcclCommTest, AWarmUpOfSomeEdgesNeedsOnlyTheirEnds) {
  run(3, [](const Rank& rank) {
    auto comm = rank.make({.is_capturable = true});
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    std::vector<std::int32_t> to;
    std::vector<std::int32_t> from;
    if (rank.number == 0) to = {2};
    if (rank.number == 2) from = {0};
    const Status warm = (*comm)->warm_up(to, from, rank.collective, Deadline(kPatienceUs));
    EXPECT_TRUE(warm.ok()) << warm.message();
  });
  EXPECT_EQ(nccl_double_count().sends, 1);
}

TEST_F(NcclCommTest, AGroupThatIsTooLargeIsAnErrorAndNotAHang) {
  run(1, [](const Rank& rank) {
    auto comm = rank.make();
    ASSERT_TRUE(comm.ok());
    EXPECT_EQ((*comm)->max_group_operations(), 6);
    const std::vector<NcclOperation> operations(7);
    const Status status = (*comm)->exchange(operations, Stream::create(0).take(), Deadline(kPatienceUs));
    EXPECT_EQ(status.code(), RESHARD_ERR_INTERNAL);
    EXPECT_THAT(status.message(), HasSubstr("a group of 7 operations"));
  });
}

TEST_F(NcclCommTest, APeerThatDoesNotComeEndsAWarmUpAtItsDeadline) {
  run(2, [&](const Rank& rank) {
    auto comm = rank.make();
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    if (rank.number == 0) {
      const std::vector<std::int32_t> peers{1};
      const auto start = Clock::now();
      const Status warm = (*comm)->warm_up(peers, peers, rank.collective, Deadline(kShortUs));
      EXPECT_EQ(warm.code(), RESHARD_ERR_TIMEOUT) << warm.message();
      EXPECT_LT(seconds_since(start), 2.0);
      EXPECT_EQ((*comm)->poll().code(), RESHARD_ERR_TIMEOUT) << "it sticks";
    }
    rank.meet();
  });
}

TEST_F(NcclCommTest, AGroupThatIsStillConnectingIsGivenUp) {
  run(2, [&](const Rank& rank) {
    auto comm = rank.make();
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    if (rank.number == 0) {
      Stream stream = Stream::create(0).take();
      DeviceMemory memory = DeviceMemory::allocate(0, 64).take();
      const NcclOperation lonely{NcclOperation::Kind::kReceive, 1, memory.data(), 64};
      EXPECT_EQ((*comm)->exchange({&lonely, 1}, stream, Deadline(kShortUs)).code(), RESHARD_ERR_TIMEOUT);
      EXPECT_TRUE((*comm)->give_up(Deadline(kPatienceUs)).ok());
      EXPECT_TRUE(stream.synchronize().ok());
    }
    rank.meet();
  });
}

/// Rank 0 queues a receive that nobody sends to.
void queue_in_vain(const Rank& rank, NcclComm* comm, const Stream& stream, const DeviceMemory& memory) {
  const NcclOperation lonely{NcclOperation::Kind::kReceive, rank.peer(1), memory.data(), 64};
  const Status queued = comm->exchange({&lonely, 1}, stream, Deadline(kPatienceUs));
  ASSERT_TRUE(queued.ok()) << queued.message();
}

TEST_F(NcclCommTest, GivingUpLetsTheStreamsRunOn) {
  nccl_double_set_lazy_connections(0);
  for (const bool is_capturable : {false, true}) {
    run(2, [&](const Rank& rank) {
      auto comm = rank.make({.is_capturable = is_capturable});
      ASSERT_TRUE(comm.ok()) << comm.status().message();
      if (rank.number == 1) {
        rank.meet();
        // As a driver does that hears of it: the communicator is of no more use to anybody.
        EXPECT_TRUE((*comm)->give_up(Deadline(kPatienceUs)).ok());
        return;
      }
      Stream stream = Stream::create(0).take();
      DeviceMemory memory = DeviceMemory::allocate(0, 64).take();
      queue_in_vain(rank, comm->get(), stream, memory);
      EXPECT_FALSE(*stream.is_done());
      EXPECT_TRUE((*comm)->poll().ok()) << "a peer that is late is no error of NCCL";
      const auto start = Clock::now();
      const Status given_up = (*comm)->give_up(Deadline(kPatienceUs));
      EXPECT_TRUE(given_up.ok()) << given_up.message();
      EXPECT_TRUE(stream.synchronize().ok());
      EXPECT_LT(seconds_since(start), 1.0);
      EXPECT_TRUE((*comm)->is_given_up());
      EXPECT_TRUE((*comm)->give_up(Deadline(kPatienceUs)).ok()) << "once is enough";
      EXPECT_EQ((*comm)->poll().code(), RESHARD_ERR_INVALID_STATE);
      EXPECT_EQ((*comm)->exchange(std::vector<NcclOperation>(1), stream, Deadline(1)).code(),
                RESHARD_ERR_INVALID_STATE);
      rank.meet();
    });
  }
}

TEST_F(NcclCommTest, WithoutRevokeACommunicatorIsAborted) {
  // Of the other library, which control.h does not steer: it looks when it is loaded.
  ASSERT_EQ(setenv("NCCL_DOUBLE_LAZY", "0", 1), 0);
  ASSERT_TRUE(NcclLibrary::load(first_library()).ok());
  ASSERT_EQ(unsetenv("NCCL_DOUBLE_LAZY"), 0);
  run(2, [&](const Rank& rank) {
    NcclOptions options;
    options.library = first_library();
    auto comm = rank.make(options);
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    if (rank.number == 1) return rank.meet();
    Stream stream = Stream::create(0).take();
    DeviceMemory memory = DeviceMemory::allocate(0, 64).take();
    queue_in_vain(rank, comm->get(), stream, memory);
    EXPECT_TRUE((*comm)->give_up(Deadline(kPatienceUs)).ok());
    EXPECT_TRUE(stream.synchronize().ok());
    EXPECT_TRUE((*comm)->is_given_up());
    rank.meet();
  });
}

TEST_F(NcclCommTest, WhatCouldNotBeGivenUpIsRefused) {
  run(2, [&](const Rank& rank) {
    NcclOptions options;
    options.library = first_library();
    options.is_capturable = true;
    const auto comm = rank.make(options);
    EXPECT_EQ(comm.status().code(), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_THAT(comm.status().message(), HasSubstr("2.28.7 or newer"));
  });
}

TEST_F(NcclCommTest, WhatBefallsACommunicatorIsTold) {
  nccl_double_set_lazy_connections(0);
  nccl_double_break_at(1, ncclSystemError);
  std::mutex mutex;
  std::vector<reshard_status_t> codes;
  run(2, [&](const Rank& rank) {
    auto comm = rank.make();
    ASSERT_TRUE(comm.ok());
    Stream stream = Stream::create(rank.number).take();
    DeviceMemory memory = DeviceMemory::allocate(rank.number, 64).take();
    const NcclOperation lonely{NcclOperation::Kind::kReceive, rank.peer(1), memory.data(), 64};
    const Deadline patience(kPatienceUs);
    Status status = (*comm)->exchange({&lonely, 1}, stream, patience);  // the other rank's may have broken it already
    while (status.ok() && !patience.expired()) status = (*comm)->poll();
    EXPECT_EQ((*comm)->poll().code(), status.code()) << "it sticks";
    EXPECT_TRUE((*comm)->give_up(Deadline(kPatienceUs)).ok());
    EXPECT_TRUE(stream.synchronize().ok());
    const std::lock_guard lock(mutex);
    codes.push_back(status.code());
  });
  EXPECT_THAT(codes, testing::UnorderedElementsAre(RESHARD_ERR_TRANSPORT, RESHARD_ERR_PEER_FAILED));
}

TEST_F(NcclCommTest, ARankThatCannotConnectIsEveryRanksError) {
  nccl_double_fail("ncclCommInitRankConfig", 1, ncclSystemError);
  std::mutex mutex;
  int num_with_the_reason = 0;
  run(3, [&](const Rank& rank) {
    const auto start = Clock::now();
    const auto comm = rank.make({}, 1'000'000);
    EXPECT_FALSE(comm.ok());
    EXPECT_LT(seconds_since(start), 4.0);
    const std::lock_guard lock(mutex);
    num_with_the_reason += comm.status().code() == RESHARD_ERR_TRANSPORT ? 1 : 0;
  });
  EXPECT_GE(num_with_the_reason, 1);
}

TEST_F(NcclCommTest, RanksOnOneDeviceAreRefusedBeforeNcclIsAsked) {
  run(2, [](const Rank& rank) {
    const auto comm = rank.make({}, kPatienceUs, 0);
    EXPECT_EQ(comm.status().code(), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_THAT(comm.status().message(), HasSubstr("ranks 0 and 1 are on one device"));
  });
  EXPECT_EQ(nccl_double_calls_of("ncclCommInitRankConfig"), 0);
}

TEST_F(NcclCommTest, WhatIsWrongWithOneRanksArgumentsIsEveryRanks) {
  run(2, [](const Rank& rank) {
    const Status arguments = rank.number == 0 ? invalid_argument("a bad buffer") : Status();
    const auto comm = NcclComm::create(rank.collective, rank.number, {}, Deadline(kPatienceUs), arguments);
    EXPECT_EQ(comm.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(comm.status().message(), HasSubstr("a bad buffer"));
  });
}

TEST_F(NcclCommTest, FewerCtasLeaveRoomForMoreOperations) {
  run(2, [](const Rank& rank) {
    auto comm = rank.make({.max_ctas = 4, .traffic_class = 3});
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    EXPECT_EQ((*comm)->max_group_operations(), 62);
    Stream stream = Stream::create(rank.number).take();
    DeviceMemory memory = DeviceMemory::allocate(rank.number, 64 << 10).take();
    std::vector<NcclOperation> operations;
    for (int i = 0; i < 62; ++i) {
      const auto kind = i % 2 == rank.number ? NcclOperation::Kind::kSend : NcclOperation::Kind::kReceive;
      operations.push_back({kind, rank.peer(1), static_cast<std::byte*>(memory.data()) + 1024 * i, 1024});
    }
    ASSERT_TRUE((*comm)->exchange(operations, stream, Deadline(kPatienceUs)).ok());
    EXPECT_TRUE(stream.synchronize().ok());
  });
  EXPECT_EQ(nccl_double_count().most_operations, 62);
  EXPECT_EQ(nccl_double_count().most_kernels, 1);
}

/// A communicator that a caller made, with NCCL's own calls.
class Given {
 public:
  Given(const Rank& rank, const ncclUniqueId& id, bool is_blocking) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = is_blocking ? 1 : 0;
    const DeviceGuard guard = DeviceGuard::enter(rank.number).take();
    (void)ncclCommInitRankConfig(&comm_, rank.num_ranks, id, rank.number, &config);
    settle();
  }
  ~Given() { EXPECT_EQ(ncclCommDestroy(comm_), ncclSuccess) << ncclGetLastError(comm_); }
  Given(const Given&) = delete;
  Given& operator=(const Given&) = delete;
  ncclComm_t handle() const { return comm_; }

 private:
  void settle() const {
    ncclResult_t code = ncclInProgress;
    while (code == ncclInProgress) ASSERT_EQ(ncclCommGetAsyncError(comm_, &code), ncclSuccess);
    ASSERT_EQ(code, ncclSuccess);
  }
  ncclComm_t comm_ = nullptr;
};

void run_with_given(std::int32_t num_ranks, bool is_blocking,
                    const std::function<void(const Rank&, const Given&)>& body) {
  ncclUniqueId id{};
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  run(num_ranks, [&](const Rank& rank) {
    const Given given(rank, id, is_blocking);
    body(rank, given);
  });
}

TEST_F(NcclCommTest, AGivenCommunicatorIsUsedAndLeftToItsOwner) {
  for (const bool is_blocking : {false, true}) {
    run_with_given(3, is_blocking, [&](const Rank& rank, const Given& given) {
      {
        auto comm = rank.make({.given = given.handle(), .is_capturable = is_blocking, .max_ctas = 32});
        ASSERT_TRUE(comm.ok()) << comm.status().message();
        EXPECT_TRUE((*comm)->is_given());
        EXPECT_EQ((*comm)->max_group_operations(), 6);
        const auto peers = rank.others();
        EXPECT_TRUE((*comm)->warm_up(peers, peers, rank.collective, Deadline(kPatienceUs)).ok());
        exchange_ring(rank, comm->get());
      }
      auto again = rank.make({.given = given.handle()});
      ASSERT_TRUE(again.ok()) << again.status().message();
      EXPECT_EQ((*again)->max_group_operations(), 2) << "what it was made with is not known";
    });
  }
  EXPECT_EQ(nccl_double_calls_of("ncclCommDestroy"), 6) << "by their owners";
}

TEST_F(NcclCommTest, AGivenCommunicatorOfAnotherRankIsRefused) {
  run_with_given(2, true, [&](const Rank& rank, const Given& given) {
    // Each rank's communicator for the other's.
    static std::array<ncclComm_t, 2> handles{};
    handles[static_cast<std::size_t>(rank.number)] = given.handle();
    rank.meet();
    const auto other = rank.make({.given = handles[static_cast<std::size_t>(1 - rank.number)]});
    EXPECT_EQ(other.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(other.status().message(), HasSubstr("both must be the same"));
  });
}

TEST_F(NcclCommTest, AGivenCommunicatorOfAnotherDeviceOrSizeIsRefused) {
  run_with_given(2, true, [&](const Rank& rank, const Given& given) {
    const auto elsewhere = rank.make({.given = given.handle()}, kPatienceUs, rank.number + 2);
    EXPECT_EQ(elsewhere.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(elsewhere.status().message(), HasSubstr("is on device"));
  });
  ncclUniqueId id{};
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  run(1, [&](const Rank& rank) {
    const Given given(rank, id, true);
    run(2, [&](const Rank& wider) {
      const auto comm = wider.make({.given = given.handle()});
      EXPECT_EQ(comm.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
      EXPECT_THAT(comm.status().message(), HasSubstr("rank 0 of 1"));
    });
  });
}

TEST_F(NcclCommTest, AGivenCommunicatorIsRevokedOnlyWherePermitted) {
  nccl_double_set_lazy_connections(0);
  for (const bool may_revoke : {false, true}) {
    run_with_given(2, true, [&](const Rank& rank, const Given& given) {
      auto comm = rank.make({.given = given.handle(), .may_revoke_given = may_revoke});
      ASSERT_TRUE(comm.ok()) << comm.status().message();
      Stream stream = Stream::create(rank.number).take();
      DeviceMemory memory = DeviceMemory::allocate(rank.number, 64).take();
      if (rank.number == 0) queue_in_vain(rank, comm->get(), stream, memory);
      rank.meet();
      if (rank.number == 0) {
        EXPECT_EQ((*comm)->give_up(Deadline(kPatienceUs)).code(), may_revoke ? RESHARD_OK : RESHARD_ERR_INVALID_STATE);
        EXPECT_EQ((*comm)->is_given_up(), may_revoke);
      } else if (!may_revoke) {
        // So the caller's own work ends what waits.
        const NcclOperation answer{NcclOperation::Kind::kSend, 0, memory.data(), 64};
        EXPECT_TRUE((*comm)->exchange({&answer, 1}, stream, Deadline(kPatienceUs)).ok());
      }
      EXPECT_TRUE(stream.synchronize().ok());
      rank.meet();
    });
  }
}

}  // namespace
}  // namespace reshard
