// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "src/transport/nccl/agreement.h"

namespace reshard {
namespace {

TEST(NcclFeaturesTest, AVersionSaysWhatItCan) {
  EXPECT_FALSE(nccl_features(22809).carries_rounds);
  EXPECT_FALSE(nccl_features(22903).carries_rounds);
  EXPECT_TRUE(nccl_features(22907).carries_rounds);
  EXPECT_FALSE(nccl_features(22907).shares_devices);
  EXPECT_TRUE(nccl_features(23000).shares_devices);
  EXPECT_EQ(nccl_version_text(22809), "2.28.9");
  EXPECT_EQ(nccl_version_text(23203), "2.32.3");
}

TEST(NcclFeaturesTest, AGroupIsSmallBeforeRoundsAreCarriedAndOfAnySizeAfter) {
  EXPECT_EQ(nccl_max_group_operations(22809, 32), 6);
  EXPECT_EQ(nccl_max_group_operations(22907, 32), 0);
}

/// NCCL's own rule, walked through: an operation is taken while there is room for a batch on each channel, and then
/// fills one on each.
std::int64_t taken_by_one_kernel(std::int64_t channels) {
  std::int64_t batches = 0;
  std::int64_t operations = 0;
  for (; batches + channels <= 254; ++operations) batches += channels;
  return operations;
}

TEST(NcclFeaturesTest, AGroupOfThatSizeFitsOneKernelWhateverItsOperationsAre) {
  for (std::int32_t ctas = 1; ctas <= kNcclMostChannels; ++ctas) {
    const std::int64_t operations = nccl_max_group_operations(22809, ctas);
    std::int64_t channels = 1;
    while (channels < ctas) channels *= 2;
    EXPECT_GE(operations, 2) << ctas << ": a send and a receive must fit, or nobody can exchange anything";
    EXPECT_LE(operations, taken_by_one_kernel(channels)) << ctas;
  }
  // Numbers that no communicator has are taken for the nearest that one can have.
  EXPECT_EQ(nccl_max_group_operations(22809, 0), nccl_max_group_operations(22809, 1));
  EXPECT_EQ(nccl_max_group_operations(22809, 1000), nccl_max_group_operations(22809, 64));
}

TEST(NcclOptionsTest, NumbersOutOfRangeAreRefusedByName) {
  const auto refusal = [](const NcclOptions& options) {
    const Status status = check_nccl_options(options);
    EXPECT_EQ(status.code(), RESHARD_ERR_INVALID_ARGUMENT);
    return status.message();
  };
  int somebodys = 0;
  EXPECT_TRUE(check_nccl_options({}).ok());
  EXPECT_TRUE(check_nccl_options({.max_ctas = 64, .traffic_class = 255}).ok());
  EXPECT_TRUE(check_nccl_options({.given = &somebodys, .may_revoke_given = true, .max_ctas = 8}).ok());
  EXPECT_THAT(refusal({.max_ctas = 65}), testing::HasSubstr("max_ctas is 65"));
  EXPECT_THAT(refusal({.max_ctas = -1}), testing::HasSubstr("max_ctas is -1"));
  EXPECT_THAT(refusal({.traffic_class = 256}), testing::HasSubstr("traffic_class is 256"));
  EXPECT_THAT(refusal({.traffic_class = -2}), testing::HasSubstr("traffic_class is -2"));
  EXPECT_THAT(refusal({.given = &somebodys, .traffic_class = 3}), testing::HasSubstr("given communicator"));
  EXPECT_THAT(refusal({.may_revoke_given = true}), testing::HasSubstr("no given communicator"));
}

}  // namespace
}  // namespace reshard
