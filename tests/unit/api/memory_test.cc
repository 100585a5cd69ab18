// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "reshard/reshard.h"

namespace {

using ::testing::HasSubstr;

class MemoryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(reshard_comm_create_local(1, nullptr, &comm_), RESHARD_OK); }
  void TearDown() override { reshard_comm_destroy(comm_); }

  reshard_comm_t comm_ = nullptr;
  void* ptr_ = nullptr;
};

TEST_F(MemoryTest, HostMemoryOfAKindIsThatOfAlloc) {
  ASSERT_EQ(reshard_alloc_on(comm_, RESHARD_MEMORY_HOST, -1, 16, &ptr_), RESHARD_OK) << reshard_last_error();
  const std::array<char, 16> text = {"copied as it is"};
  EXPECT_EQ(reshard_copy(ptr_, text.data(), text.size()), RESHARD_OK);
  EXPECT_STREQ(static_cast<const char*>(ptr_), "copied as it is");
  EXPECT_EQ(reshard_free(comm_, ptr_), RESHARD_OK);
}

TEST_F(MemoryTest, HostMemoryIsOfNoDevice) {
  EXPECT_EQ(reshard_alloc_on(comm_, RESHARD_MEMORY_HOST, 0, 16, &ptr_), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("host memory was asked for on device 0"));
  EXPECT_EQ(ptr_, nullptr);
}

TEST_F(MemoryTest, ACopyNeedsBothPlaces) {
  char byte = 0;
  EXPECT_EQ(reshard_copy(nullptr, &byte, 1), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_copy(&byte, nullptr, 1), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard_copy(nullptr, nullptr, 0), RESHARD_OK);
}

TEST_F(MemoryTest, WithoutADeviceTheErrorSaysWhatIsNeeded) {
  std::int32_t count = -1;
  const reshard_status_t counted = reshard_device_count(&count);
  if (counted == RESHARD_OK) GTEST_SKIP() << "this machine has " << count << " devices";
  EXPECT_EQ(counted, RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_EQ(count, 0);
  EXPECT_THAT(reshard_last_error(), HasSubstr("13.0"));
  EXPECT_EQ(reshard_alloc_on(comm_, RESHARD_MEMORY_CUDA, 0, 16, &ptr_), RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_THAT(reshard_last_error(), HasSubstr("13.0"));
}

}  // namespace
