// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What goes wrong, by the double's own doing or by that of whoever uses it.
#include <dlfcn.h>

#include <cstdlib>
#include <thread>

#include "tests/unit/nccl_double/ranks.h"

namespace reshard::testing {
namespace {

/// Two ranks of which one thread drives either end, with a buffer each.
class FailureTest : public NcclDoubleTest {
 protected:
  void SetUp() override {
    NcclDoubleTest::SetUp();
    nccl_double_set_lazy_connections(0);
  }
  ncclResult_t send(Rank& rank, const Bytes& bytes, int peer) {
    return ncclSend(bytes.data(), bytes.size(), ncclInt8, peer, rank.comm, rank.stream);
  }
  ncclResult_t receive(Rank& rank, const Bytes& bytes, int peer) {
    return ncclRecv(bytes.data(), bytes.size(), ncclInt8, peer, rank.comm, rank.stream);
  }
  static ncclResult_t state(const Rank& rank) {
    ncclResult_t code = ncclSuccess;
    EXPECT_EQ(ncclCommGetAsyncError(rank.comm, &code), ncclSuccess);
    return code;
  }
  static bool was_misused(const std::string& text) {
    return nccl_double_count().misuses > 0 && std::string(nccl_double_last_misuse()).find(text) != std::string::npos;
  }
};

TEST_F(FailureTest, NonBlockingGroupsAreInProgressAndThenRun) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    nccl_double_seed(seed);
    cuda_double_seed(seed);
    Ranks ranks(2, non_blocking());
    const Bytes from(0, 100);
    const Bytes to(1, 100);
    from.put(random_bytes(100, seed));
    ASSERT_EQ(send(ranks[0], from, 1), ncclInProgress);
    ASSERT_EQ(receive(ranks[1], to, 0), ncclInProgress);
    ASSERT_TRUE(ranks.settle());
    ASSERT_EQ(ranks.synchronize(), cudaSuccess);
    EXPECT_EQ(to.get(), from.get());
  }
  EXPECT_EQ(nccl_double_count().misuses, 0);
}

TEST_F(FailureTest, UseOfACommunicatorInProgressIsFound) {
  Ranks ranks(2, non_blocking());
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  ASSERT_EQ(send(ranks[0], from, 1), ncclInProgress);
  EXPECT_EQ(send(ranks[0], from, 1), ncclInvalidArgument);
  EXPECT_TRUE(was_misused("ncclInProgress"));
  ASSERT_EQ(receive(ranks[1], to, 0), ncclInProgress);
  ASSERT_TRUE(ranks.settle());
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, WorkInAStreamOfAGroupInProgressIsFound) {
  Ranks ranks(2, non_blocking());
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  ASSERT_EQ(send(ranks[0], from, 1), ncclInProgress);
  ASSERT_EQ(cudaMemsetAsync(from.data(), 0, 1, ranks[0].stream), cudaSuccess);
  EXPECT_TRUE(was_misused("a fill in a stream of rank 0"));
  ASSERT_EQ(receive(ranks[1], to, 0), ncclInProgress);
  ASSERT_TRUE(ranks.settle());
  ASSERT_EQ(cudaMemsetAsync(from.data(), 0, 1, ranks[0].stream), cudaSuccess);
  EXPECT_EQ(nccl_double_count().misuses, 1) << "none when it is no longer in progress";
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, AbortWakesWhatWaits) {
  Ranks ranks(2, non_blocking());
  const Bytes from(0, 1);
  ASSERT_EQ(send(ranks[0], from, 1), ncclInProgress);
  ASSERT_TRUE(ranks.settle());
  for (int count = 0; count < 50; ++count) ASSERT_EQ(cudaStreamQuery(ranks[0].stream), cudaErrorNotReady);
  ranks.give_up();
  EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaSuccess);
  EXPECT_EQ(nccl_double_count().misuses, 0);
  ncclResult_t code = ncclSuccess;
  EXPECT_EQ(ncclCommGetAsyncError(ranks[0].comm, &code), ncclInvalidArgument);
  EXPECT_TRUE(was_misused("destroyed or aborted"));
}

TEST_F(FailureTest, AbortOfABlockingCommunicatorAtWorkIsFound) {
  Ranks ranks(2);
  const Bytes from(0, 1);
  ASSERT_EQ(send(ranks[0], from, 1), ncclSuccess);
  ranks.give_up();
  EXPECT_TRUE(was_misused("which is blocking"));
  EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaSuccess);
}

TEST_F(FailureTest, RevokeWakesWhatWaitsAndLeavesACommunicatorToBeDestroyed) {
  for (const bool is_blocking : {true, false}) {
    Ranks ranks(2, is_blocking ? ncclConfig_t(NCCL_CONFIG_INITIALIZER) : non_blocking());
    const Bytes from(0, 1);
    (void)send(ranks[0], from, 1);
    ASSERT_TRUE(ranks.settle());
    for (int number = 0; number < 2; ++number) {
      const ncclResult_t code = ncclCommRevoke(ranks[number].comm, NCCL_REVOKE_DEFAULT);
      EXPECT_TRUE(code == ncclSuccess || (!is_blocking && code == ncclInProgress)) << code;
    }
    ASSERT_TRUE(ranks.settle()) << "nobody has to wait for the stream";
    EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaSuccess);
    EXPECT_EQ(send(ranks[0], from, 1), ncclInvalidUsage);
    EXPECT_EQ(ncclCommFinalize(ranks[0].comm), ncclInvalidArgument);
    EXPECT_EQ(ncclCommRevoke(ranks[0].comm, NCCL_REVOKE_DEFAULT), ncclInvalidArgument);
  }
  EXPECT_EQ(nccl_double_count().misuses, 0);
}

TEST_F(FailureTest, BrokenCommunicatorSaysSoToAllRanksAndItsKernelsStay) {
  Ranks ranks(2, non_blocking());
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  nccl_double_break_at(1, ncclSystemError);
  (void)send(ranks[0], from, 1);
  (void)receive(ranks[1], to, 0);
  for (int count = 0; count < 50; ++count) (void)state(ranks[0]);
  const std::vector<ncclResult_t> states{state(ranks[0]), state(ranks[1])};
  EXPECT_TRUE((states == std::vector{ncclSystemError, ncclRemoteError}) ||
              (states == std::vector{ncclRemoteError, ncclSystemError}));
  EXPECT_EQ(cudaStreamQuery(ranks[0].stream), cudaErrorNotReady);
  EXPECT_NE(send(ranks[0], from, 1), ncclSuccess);
  EXPECT_NE(ncclCommDestroy(ranks[0].comm), ncclSuccess) << "only abort frees it";
  ranks.give_up();
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, LostMessageIsWaitedForAndItsSendEnds) {
  Ranks ranks(2, non_blocking());
  const Bytes from(0, 100);
  const Bytes to(1, 100);
  nccl_double_lose_message(1);
  (void)send(ranks[0], from, 1);
  (void)receive(ranks[1], to, 0);
  ASSERT_TRUE(ranks.settle());
  EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaSuccess);
  for (int count = 0; count < 50; ++count) ASSERT_EQ(cudaStreamQuery(ranks[1].stream), cudaErrorNotReady);
  ranks.give_up();
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, SizesThatDifferAreFound) {
  Ranks ranks(2);
  const Bytes from(0, 100);
  const Bytes to(1, 101);
  ASSERT_EQ(send(ranks[0], from, 1), ncclSuccess);
  ASSERT_EQ(receive(ranks[1], to, 0), ncclSuccess);
  EXPECT_EQ(ranks.synchronize(), cudaErrorLaunchTimeout) << "NCCL hangs, or writes where it should not";
  EXPECT_TRUE(was_misused("receives 101 bytes"));
  ranks.give_up();
}

TEST_F(FailureTest, SecondThreadInAGroupIsFound) {
  Ranks ranks(2);
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  ASSERT_EQ(send(ranks[0], from, 1), ncclSuccess);
  std::thread([&] { EXPECT_EQ(send(ranks[0], from, 1), ncclInvalidUsage); }).join();
  EXPECT_TRUE(was_misused("second thread"));
  ASSERT_EQ(receive(ranks[1], to, 0), ncclSuccess);
  ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, ArgumentsThatNcclRefusesAreRefusedAndSpoilTheGroup) {
  Ranks ranks(2);
  const Bytes from(0, 1);
  EXPECT_EQ(send(ranks[0], from, 2), ncclInvalidArgument);
  EXPECT_EQ(ncclSend(nullptr, 1, ncclInt8, 1, ranks[0].comm, ranks[0].stream), ncclInvalidArgument);
  EXPECT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, ranks[0].comm, ranks[1].stream), ncclInvalidArgument);
  EXPECT_EQ(send(ranks[0], from, 0), ncclInvalidUsage) << "to itself, with no receive";
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  ASSERT_EQ(send(ranks[0], from, 1), ncclSuccess);
  EXPECT_EQ(send(ranks[0], from, 2), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
  EXPECT_EQ(cuda_double_num_queued(), 0);
  nccl_double_fail("ncclSend", 2, ncclInternalError);
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  ASSERT_EQ(send(ranks[0], from, 1), ncclSuccess);
  EXPECT_EQ(send(ranks[0], from, 1), ncclInternalError);
  (void)ncclGroupEnd();
  ranks.give_up();
}

TEST_F(FailureTest, MemoryThatTheDeviceCannotReachEndsInAFault) {
  cuda_double_set_peer_access(0);
  Ranks ranks(2);
  const Bytes elsewhere(1, 1);
  ASSERT_EQ(send(ranks[0], elsewhere, 1), ncclSuccess);
  EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaErrorIllegalAddress);
  EXPECT_TRUE(was_misused("cannot reach"));
  ranks.give_up();
  cuda_double_set_peer_access(1);
}

TEST_F(FailureTest, FirstUseOfAConnectionWaitsForThePeer) {
  nccl_double_set_lazy_connections(1);
  Ranks ranks(2);
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  EXPECT_EQ(send(ranks[0], from, 1), ncclInternalError) << "nobody comes";
  nccl_double_set_deadlock_ms(30000);
  std::thread sender([&] { EXPECT_EQ(send(ranks[0], from, 1), ncclSuccess); });
  EXPECT_EQ(receive(ranks[1], to, 0), ncclSuccess);
  sender.join();
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
  EXPECT_EQ(send(ranks[0], from, 1), ncclSuccess) << "at once, the second time";
  EXPECT_EQ(receive(ranks[1], to, 0), ncclSuccess);
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(FailureTest, RankThatWaitsForTheOthersIsWokenByAnAbort) {
  nccl_double_set_deadlock_ms(30000);
  ncclUniqueId id{};
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comm = nullptr;
  ncclResult_t code = ncclSuccess;
  std::thread waiting([&] {
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    code = ncclCommInitRank(&comm, 2, id, 0);
  });
  while (nccl_double_count().comms == 0) std::this_thread::yield();
  EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  waiting.join();
  EXPECT_EQ(code, ncclSystemError);
  EXPECT_TRUE(was_misused("while another call is inside NCCL"));
}

/// The codes that two ranks on device 0 get; they are in one group, so that neither waits.
std::vector<ncclResult_t> share_a_device() {
  ncclUniqueId id{};
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  std::vector<ncclComm_t> comms(2);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  std::vector<ncclResult_t> codes;
  EXPECT_EQ(ncclGroupStart(), ncclSuccess);
  for (int rank = 0; rank < 2; ++rank) {
    codes.push_back(ncclCommInitRankConfig(&comms[static_cast<std::size_t>(rank)], 2, id, rank, &config));
  }
  codes.push_back(ncclGroupEnd());
  for (ncclComm_t comm : comms) EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  return codes;
}

TEST_F(FailureTest, TwoRanksOnOneDeviceNeedANewVersionAndAVariable) {
  const std::vector<ncclResult_t> refused{ncclSuccess, ncclInvalidUsage, ncclInvalidUsage};
  nccl_double_set_version(23000);
  EXPECT_EQ(share_a_device(), refused);
  setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
  EXPECT_EQ(share_a_device(), std::vector<ncclResult_t>(3, ncclSuccess));
  nccl_double_set_version(22907);
  EXPECT_EQ(share_a_device(), refused);
  unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
}

TEST_F(FailureTest, OldVersionLacksRevoke) {
  void* const library = dlopen(NCCL_DOUBLE_2_28_3, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  EXPECT_EQ(dlsym(library, "ncclCommRevoke"), nullptr);
  const auto get_version = reinterpret_cast<decltype(&ncclGetVersion)>(dlsym(library, "ncclGetVersion"));
  ASSERT_NE(get_version, nullptr);
  int version = 0;
  EXPECT_EQ(get_version(&version), ncclSuccess);
  EXPECT_EQ(version, 22803);
  for (const char* name : {"ncclSend", "ncclRecv", "ncclGroupEnd", "ncclCommInitRankConfig", "ncclCommAbort",
                           "ncclMemAlloc", "ncclCommUserRank", "nccl_double_count"}) {
    EXPECT_NE(dlsym(library, name), nullptr) << name;
  }
  dlclose(library);
}

}  // namespace
}  // namespace reshard::testing
