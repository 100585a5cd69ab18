// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Ranks that are processes.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"
#include "tests/unit/device/two_processes.h"

namespace reshard {
namespace {

constexpr std::size_t kBytes = 1 << 20;

std::string text_of(const ncclUniqueId& id) {
  return {id.internal, sizeof id.internal};
}

ncclUniqueId id_of(const std::string& text) {
  ncclUniqueId id{};
  std::memcpy(id.internal, text.data(), std::min(text.size(), sizeof id.internal));
  return id;
}

/// One rank in a process of its own, on the device of its number.
struct Rank {
  Rank(int number, const Partner& partner, bool is_blocking) {
    ncclUniqueId id{};
    if (number == 0) {
      RESHARD_REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
      partner.send_text(text_of(id));
    } else {
      id = id_of(partner.receive_text());
    }
    RESHARD_REQUIRE(cudaSetDevice(number) == cudaSuccess);
    RESHARD_REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    RESHARD_REQUIRE(cudaMalloc(&memory, kBytes) == cudaSuccess);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = is_blocking ? 1 : 0;
    const ncclResult_t code = ncclCommInitRankConfig(&comm, 2, id, number, &config);
    RESHARD_REQUIRE(code == (is_blocking ? ncclSuccess : ncclInProgress));
    RESHARD_REQUIRE(settle() == ncclSuccess);
  }
  ncclResult_t settle() const {
    ncclResult_t code = ncclInProgress;
    while (code == ncclInProgress) {
      RESHARD_REQUIRE(ncclCommGetAsyncError(comm, &code) == ncclSuccess);
      std::this_thread::yield();
    }
    return code;
  }
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  void* memory = nullptr;
};

std::vector<unsigned char> pattern() {
  std::vector<unsigned char> bytes(kBytes);
  for (std::size_t index = 0; index < kBytes; ++index)
    bytes[index] = static_cast<unsigned char>(index * 31 + index / 255);
  return bytes;
}

TEST(ProcessesTest, BytesGoBackAndForthBetweenProcesses) {
  for (const bool is_blocking : {true, false}) {
    const auto first = [&](const Partner& partner) {
      Rank rank(0, partner, is_blocking);
      cuda_double_poke(rank.memory, pattern().data(), kBytes);
      (void)ncclSend(rank.memory, kBytes, ncclInt8, 1, rank.comm, rank.stream);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      RESHARD_REQUIRE(cudaMemsetAsync(rank.memory, 0, kBytes, rank.stream) == cudaSuccess);
      (void)ncclRecv(rank.memory, kBytes, ncclInt8, 1, rank.comm, rank.stream);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      RESHARD_REQUIRE(cudaStreamSynchronize(rank.stream) == cudaSuccess);
      std::vector<unsigned char> back(kBytes);
      cuda_double_peek(back.data(), rank.memory, kBytes);
      RESHARD_REQUIRE(back == pattern());
      (void)ncclCommFinalize(rank.comm);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      RESHARD_REQUIRE(ncclCommDestroy(rank.comm) == ncclSuccess);
      RESHARD_REQUIRE(nccl_double_count().misuses == 0);
    };
    const auto second = [&](const Partner& partner) {
      Rank rank(1, partner, is_blocking);
      (void)ncclRecv(rank.memory, kBytes, ncclInt8, 0, rank.comm, rank.stream);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      (void)ncclSend(rank.memory, kBytes, ncclInt8, 0, rank.comm, rank.stream);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      RESHARD_REQUIRE(cudaStreamSynchronize(rank.stream) == cudaSuccess);
      (void)ncclCommFinalize(rank.comm);
      RESHARD_REQUIRE(rank.settle() == ncclSuccess);
      RESHARD_REQUIRE(ncclCommDestroy(rank.comm) == ncclSuccess);
    };
    EXPECT_TRUE(run_two(first, second));
  }
}

TEST(ProcessesTest, PeerThatDiesIsToldAndWhatWaitsForItIsAborted) {
  const auto first = [](const Partner& partner) {
    Rank rank(0, partner, false);
    nccl_double_set_lazy_connections(0);
    (void)ncclRecv(rank.memory, kBytes, ncclInt8, 1, rank.comm, rank.stream);
    while (rank.settle() == ncclSuccess) std::this_thread::yield();
    RESHARD_REQUIRE(rank.settle() == ncclRemoteError);
    RESHARD_REQUIRE(ncclCommAbort(rank.comm) == ncclSuccess);
    RESHARD_REQUIRE(cudaStreamSynchronize(rank.stream) == cudaSuccess);
  };
  const auto second = [](const Partner& partner) {
    const Rank rank(1, partner, false);
    std::quick_exit(0);
  };
  EXPECT_TRUE(run_two(first, second));
}

TEST(ProcessesTest, DeadlockBetweenProcessesIsToldToBoth) {
  const auto rank_that_receives = [](int number, const Partner& partner) {
    Rank rank(number, partner, true);
    nccl_double_set_lazy_connections(0);
    nccl_double_set_deadlock_ms(300);
    (void)ncclRecv(rank.memory, 1, ncclInt8, 1 - number, rank.comm, rank.stream);
    partner.send_text("queued");
    RESHARD_REQUIRE(partner.receive_text() == "queued");
    RESHARD_REQUIRE(cudaStreamSynchronize(rank.stream) == cudaErrorLaunchTimeout);
    RESHARD_REQUIRE(nccl_double_count().deadlocks == 1);
    partner.send_text("seen");
    RESHARD_REQUIRE(partner.receive_text() == "seen");
  };
  EXPECT_TRUE(run_two([&](const Partner& partner) { rank_that_receives(0, partner); },
                      [&](const Partner& partner) { rank_that_receives(1, partner); }));
}

}  // namespace
}  // namespace reshard
