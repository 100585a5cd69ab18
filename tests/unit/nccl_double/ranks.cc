// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/nccl_double/ranks.h"

#include <random>

namespace reshard::testing {

Bytes::Bytes(int device, std::size_t size_bytes) : size_(size_bytes) {
  EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
  void* ptr = nullptr;
  EXPECT_EQ(cudaMalloc(&ptr, size_bytes), cudaSuccess);
  data_ = static_cast<std::byte*>(ptr);
}
Bytes::~Bytes() {
  EXPECT_EQ(cudaFree(data_), cudaSuccess);
}
void Bytes::put(const std::vector<std::uint8_t>& bytes) const {
  if (!bytes.empty()) cuda_double_poke(data_, bytes.data(), bytes.size());
}
std::vector<std::uint8_t> Bytes::get() const {
  std::vector<std::uint8_t> out(size_);
  if (size_ > 0) cuda_double_peek(out.data(), data_, size_);
  return out;
}

Ranks::Ranks(int num_ranks, ncclConfig_t config) : ranks_(static_cast<std::size_t>(num_ranks)) {
  ncclUniqueId id{};
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  EXPECT_EQ(ncclGroupStart(), ncclSuccess);
  for (int number = 0; number < num_ranks; ++number) {
    Rank& rank = (*this)[number];
    rank.number = number;
    EXPECT_EQ(cudaSetDevice(number), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&rank.stream, cudaStreamNonBlocking), cudaSuccess);
    (void)ncclCommInitRankConfig(&rank.comm, num_ranks, id, number, &config);
  }
  EXPECT_EQ(ncclGroupEnd(), ncclSuccess) << ncclGetLastError(nullptr);
  EXPECT_TRUE(settle());
}

Ranks::~Ranks() {
  if (!has_given_up_) {
    EXPECT_TRUE(settle());
    for (Rank& rank : ranks_) EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess) << ncclGetLastError(nullptr);
  }
  for (Rank& rank : ranks_) EXPECT_EQ(cudaStreamDestroy(rank.stream), cudaSuccess);
}

bool Ranks::settle() {
  bool is_well = true;
  for (Rank& rank : ranks_) {
    ncclResult_t code = ncclInProgress;
    for (int count = 0; count < 10000 && code == ncclInProgress; ++count) {
      EXPECT_EQ(ncclCommGetAsyncError(rank.comm, &code), ncclSuccess);
      // What one waits for, others may have to be asked for, too.
      for (Rank& other : ranks_) {
        ncclResult_t others = ncclSuccess;
        (void)ncclCommGetAsyncError(other.comm, &others);
      }
    }
    is_well = is_well && code == ncclSuccess;
  }
  return is_well;
}

void Ranks::give_up() {
  has_given_up_ = true;
  cuda_double_clear();
  for (Rank& rank : ranks_) EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
}

cudaError_t Ranks::synchronize() {
  for (Rank& rank : ranks_) {
    const cudaError_t code = cudaStreamSynchronize(rank.stream);
    if (code != cudaSuccess) return code;
  }
  return cudaSuccess;
}

void NcclDoubleTest::SetUp() {
  cuda_double_clear();
  cuda_double_set_devices(8);
  nccl_double_clear();
  nccl_double_set_deadlock_ms(200);
}

void NcclDoubleTest::TearDown() {
  cuda_double_clear();
  EXPECT_EQ(nccl_double_count().comms, 0);
  EXPECT_EQ(cuda_double_num_live(), 0);
}

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

std::vector<std::uint8_t> random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> out(size);
  for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(random());
  return out;
}

}  // namespace reshard::testing
