// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bytes that move, and when.
#include "tests/unit/nccl_double/ranks.h"

namespace reshard::testing {
namespace {

/// One thread drives both ends, one after the other: nobody may wait for a connection.
class ExchangeTest : public NcclDoubleTest {
 protected:
  void SetUp() override {
    NcclDoubleTest::SetUp();
    nccl_double_set_lazy_connections(0);
  }
};

TEST_F(ExchangeTest, SendsArriveWhereTheyAreReceived) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{17}, std::size_t{100'000}}) {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      cuda_double_seed(seed);
      nccl_double_seed(seed);
      Ranks ranks(2);
      const Bytes from(0, size + 1);
      const Bytes to(1, size + 1);
      const std::vector<std::uint8_t> bytes = random_bytes(size, seed);
      from.put(bytes);
      const std::vector<std::uint8_t> before = to.get();
      ASSERT_EQ(ncclSend(from.data(), size, ncclInt8, 1, ranks[0].comm, ranks[0].stream), ncclSuccess);
      ASSERT_EQ(ncclRecv(to.data(), size, ncclInt8, 0, ranks[1].comm, ranks[1].stream), ncclSuccess);
      ASSERT_EQ(ranks.synchronize(), cudaSuccess);
      std::vector<std::uint8_t> after = to.get();
      EXPECT_EQ(after.back(), before.back());
      after.pop_back();
      EXPECT_EQ(after, bytes) << "size " << size << ", seed " << seed;
    }
  }
  EXPECT_EQ(nccl_double_count().misuses, 0);
}

TEST_F(ExchangeTest, SendDoesNotEndBeforeItIsReceived) {
  Ranks ranks(2);
  const Bytes from(0, 1);
  const Bytes to(1, 1);
  ASSERT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, ranks[0].comm, ranks[0].stream), ncclSuccess);
  for (int count = 0; count < 100; ++count) ASSERT_EQ(cudaStreamQuery(ranks[0].stream), cudaErrorNotReady);
  ASSERT_EQ(ncclRecv(to.data(), 1, ncclInt8, 0, ranks[1].comm, ranks[1].stream), ncclSuccess);
  EXPECT_EQ(ranks.synchronize(), cudaSuccess);
}

TEST_F(ExchangeTest, SendThatNobodyReceivesIsReportedAsADeadlock) {
  Ranks ranks(2);
  const Bytes from(0, 1);
  ASSERT_EQ(ncclSend(from.data(), 1, ncclInt8, 1, ranks[0].comm, ranks[0].stream), ncclSuccess);
  EXPECT_EQ(cudaStreamSynchronize(ranks[0].stream), cudaErrorLaunchTimeout);
  EXPECT_EQ(nccl_double_count().deadlocks, 1);
  EXPECT_NE(std::string(nccl_double_last_deadlock()).find("a send to rank 1"), std::string::npos)
      << nccl_double_last_deadlock();
  ranks.give_up();
}

}  // namespace
}  // namespace reshard::testing
