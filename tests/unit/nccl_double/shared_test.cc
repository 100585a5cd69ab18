// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Communicators beside others: two on one device, collectives between sends, groups in graphs.
#include <cstdlib>
#include <cstring>

#include "tests/unit/nccl_double/ranks.h"

namespace reshard::testing {
namespace {

class SharedTest : public NcclDoubleTest {
 protected:
  void SetUp() override {
    NcclDoubleTest::SetUp();
    nccl_double_set_lazy_connections(0);
  }
};

/// Sends a byte over each of two communicators, on one rank in the order of the communicators, on the other in that or
/// the opposite one.
cudaError_t run_two_comms(std::uint64_t seed, bool has_one_order) {
  cuda_double_seed(seed);
  nccl_double_seed(seed);
  nccl_double_set_deadlock_ms(60);
  Ranks first(2);
  Ranks second(2);
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  for (Ranks* ranks : {&first, &second}) {
    EXPECT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, (*ranks)[0].comm, (*ranks)[0].stream), ncclSuccess);
  }
  const std::vector<Ranks*> order = has_one_order ? std::vector{&first, &second} : std::vector{&second, &first};
  for (Ranks* ranks : order) {
    EXPECT_EQ(ncclRecv(to.data(), 1, ncclInt8, 0, (*ranks)[1].comm, (*ranks)[1].stream), ncclSuccess);
  }
  cudaError_t code = first.synchronize();
  if (code == cudaSuccess) code = second.synchronize();
  if (code != cudaSuccess) {
    first.give_up();
    second.give_up();
  }
  return code;
}

TEST_F(SharedTest, CommunicatorsThatAreUsedInDifferentOrdersBlockEachOther) {
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 1);
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    EXPECT_EQ(run_two_comms(seed, true), cudaSuccess) << "seed " << seed;
  }
  EXPECT_EQ(run_two_comms(1, false), cudaErrorLaunchTimeout);
  unsetenv("NCCL_LAUNCH_ORDER_IMPLICIT");
  int num_hangs = 0;
  for (std::uint64_t seed = 0; seed < 16; ++seed) num_hangs += run_two_comms(seed, true) == cudaSuccess ? 0 : 1;
  EXPECT_GT(num_hangs, 0) << "without an edge between the streams nothing orders the kernels";
  nccl_double_set_concurrent_comms(1);
  for (std::uint64_t seed = 0; seed < 8; ++seed) EXPECT_EQ(run_two_comms(seed, false), cudaSuccess);
}

TEST_F(SharedTest, CollectivesAndSendsOfOneGroupAllArrive) {
  constexpr int kNumRanks = 4;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    cuda_double_seed(seed);
    nccl_double_seed(seed);
    Ranks ranks(kNumRanks);
    std::vector<std::unique_ptr<Bytes>> sums;
    std::vector<std::unique_ptr<Bytes>> shared;
    std::vector<std::unique_ptr<Bytes>> moved;
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    for (int number = 0; number < kNumRanks; ++number) {
      const Rank& rank = ranks[number];
      sums.push_back(std::make_unique<Bytes>(number, 12));
      sums.back()->put({static_cast<std::uint8_t>(number), 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0});
      shared.push_back(std::make_unique<Bytes>(number, 1000));
      shared.back()->put(random_bytes(1000, static_cast<std::uint64_t>(number)));
      moved.push_back(std::make_unique<Bytes>(number, 20));
      moved.back()->put(std::vector<std::uint8_t>(10, static_cast<std::uint8_t>(number)));
      const int next = (number + 1) % kNumRanks;
      const int last = (number + kNumRanks - 1) % kNumRanks;
      ASSERT_EQ(ncclSend(moved.back()->data(), 10, ncclInt8, next, rank.comm, rank.stream), ncclSuccess);
      ASSERT_EQ(ncclRecv(moved.back()->data() + 10, 10, ncclInt8, last, rank.comm, rank.stream), ncclSuccess);
      ASSERT_EQ(ncclAllReduce(sums.back()->data(), sums.back()->data(), 3, ncclInt32, ncclSum, rank.comm, rank.stream),
                ncclSuccess);
      ASSERT_EQ(ncclBroadcast(shared.back()->data(), shared.back()->data(), 1000, ncclInt8, 2, rank.comm, rank.stream),
                ncclSuccess);
    }
    ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
    ASSERT_EQ(ranks.synchronize(), cudaSuccess);
    for (int number = 0; number < kNumRanks; ++number) {
      const auto index = static_cast<std::size_t>(number);
      EXPECT_EQ(sums[index]->get(), (std::vector<std::uint8_t>{6, 0, 0, 0, 4, 0, 0, 0, 0, 4, 0, 0}));
      EXPECT_EQ(shared[index]->get(), random_bytes(1000, 2));
      EXPECT_EQ(moved[index]->get().back(), (number + kNumRanks - 1) % kNumRanks);
    }
  }
}

TEST_F(SharedTest, CapturedGroupRunsWithEachLaunchOfTheGraph) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    cuda_double_seed(seed);
    nccl_double_seed(seed);
    Ranks ranks(2);
    const Bytes from(0, 5000);
    const Bytes to(1, 5000);
    std::vector<cudaGraphExec_t> execs(2);
    for (int number = 0; number < 2; ++number) {
      const Rank& rank = ranks[number];
      ASSERT_EQ(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
      const ncclResult_t code = number == 0 ? ncclSend(from.data(), 5000, ncclInt8, 1, rank.comm, rank.stream)
                                            : ncclRecv(to.data(), 5000, ncclInt8, 0, rank.comm, rank.stream);
      ASSERT_EQ(code, ncclSuccess);
      cudaGraph_t graph = nullptr;
      ASSERT_EQ(cudaStreamEndCapture(rank.stream, &graph), cudaSuccess);
      ASSERT_EQ(cudaGraphInstantiate(&execs[static_cast<std::size_t>(number)], graph, 0), cudaSuccess);
      ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    }
    EXPECT_EQ(nccl_double_count().kernels, static_cast<std::int64_t>(seed) * 6) << "none by the capture";
    for (std::uint64_t run = 0; run < 3; ++run) {
      from.put(random_bytes(5000, run));
      for (int number = 0; number < 2; ++number) {
        ASSERT_EQ(cudaGraphLaunch(execs[static_cast<std::size_t>(number)], ranks[number].stream), cudaSuccess);
      }
      ASSERT_EQ(ranks.synchronize(), cudaSuccess);
      EXPECT_EQ(to.get(), from.get());
    }
    for (cudaGraphExec_t exec : execs) EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  }
  EXPECT_EQ(nccl_double_count().misuses, 0);
}

TEST_F(SharedTest, CommunicatorOutlivesTheGraphsThatHoldItsGroups) {
  cudaGraph_t graph = nullptr;
  const Bytes from(0, 1);
  cudaGraphExec_t exec = nullptr;
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  {
    Ranks ranks(2);
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
    ASSERT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, ranks[0].comm, stream), ncclSuccess);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  }
  EXPECT_EQ(nccl_double_count().misuses, 1) << nccl_double_last_misuse();
  ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(nccl_double_count().misuses, 2) << nccl_double_last_misuse();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(SharedTest, OnlyBlockingConnectedCommunicatorsAreCaptured) {
  for (const bool is_blocking : {true, false}) {
    nccl_double_clear();
    nccl_double_set_lazy_connections(is_blocking ? 1 : 0);
    Ranks ranks(2, is_blocking ? ncclConfig_t(NCCL_CONFIG_INITIALIZER) : non_blocking());
    const Bytes from(0, 1);
    ASSERT_EQ(cudaStreamBeginCapture(ranks[0].stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
    EXPECT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, ranks[0].comm, ranks[0].stream), ncclInvalidUsage);
    EXPECT_NE(std::string(nccl_double_last_misuse()).find(is_blocking ? "not connected" : "non-blocking"),
              std::string::npos);
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(ranks[0].stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

TEST_F(SharedTest, GroupWaitsForAllItsStreamsAndTheyForIt) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    cuda_double_seed(seed);
    nccl_double_seed(seed);
    Ranks ranks(2);
    const Bytes from(0, 2000);
    const Bytes to(1, 2000);
    ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
    cudaStream_t other = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    const Rank& sender = ranks[0];
    const Rank& receiver = ranks[1];
    ASSERT_EQ(cudaMemsetAsync(from.data(), 5, 2000, sender.stream), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(to.data(), 1, 2000, other), cudaSuccess);
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    for (int half = 0; half < 2; ++half) {
      cudaStream_t stream = half == 0 ? receiver.stream : other;
      ASSERT_EQ(ncclSend(from.data() + 1000 * half, 1000, ncclInt8, 1, sender.comm, sender.stream), ncclSuccess);
      ASSERT_EQ(ncclRecv(to.data() + 1000 * half, 1000, ncclInt8, 0, receiver.comm, stream), ncclSuccess);
    }
    ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
    ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(to.get(), std::vector<std::uint8_t>(2000, 5)) << "seed " << seed;
    ASSERT_EQ(ranks.synchronize(), cudaSuccess);
    ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
  }
}

TEST_F(SharedTest, MemoryOfNcclIsReachedFromEveryDevice) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  void* ptr = nullptr;
  ASSERT_EQ(ncclMemAlloc(&ptr, 100), ncclSuccess);
  EXPECT_EQ(cuda_double_can_access(0, ptr, 100), 1);
  cudaPointerAttributes attributes{};
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, ptr), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(ncclMemFree(ptr), ncclSuccess);
}

}  // namespace
}  // namespace reshard::testing
