// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Ranks of a communicator of the double, driven by one thread or by one each.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"

namespace reshard::testing {

/// Device memory of one rank.
class Bytes {
 public:
  Bytes(int device, std::size_t size_bytes);
  ~Bytes();
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  void put(const std::vector<std::uint8_t>& bytes) const;
  std::vector<std::uint8_t> get() const;

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Of one rank: its device is its number.
struct Rank {
  int number = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};

/// All ranks of one communicator, made by one thread.
class Ranks {
 public:
  explicit Ranks(int num_ranks, ncclConfig_t config = NCCL_CONFIG_INITIALIZER);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  int size() const { return static_cast<int>(ranks_.size()); }
  Rank& operator[](int number) { return ranks_[static_cast<std::size_t>(number)]; }
  /// Asks all ranks until none is in progress any more; whether all are well then.
  bool settle();
  /// After a deadlock: the device works again, and nothing of the communicator does.
  void give_up();
  /// Waits for all streams; the first code that is none of success.
  cudaError_t synchronize();

 private:
  std::vector<Rank> ranks_;
  bool has_given_up_ = false;
};

/// Starts each test with clean doubles, eight devices and no patience with deadlocks.
class NcclDoubleTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
};

ncclConfig_t non_blocking();

std::vector<std::uint8_t> random_bytes(std::size_t size, std::uint64_t seed);

}  // namespace reshard::testing
