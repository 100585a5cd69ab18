// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The library as users link it, on the double: what other tests and the tools find at build/PRESET/lib/on_double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "reshard/reshard.h"
#include "tests/doubles/cuda/control.h"

namespace {

class LibraryOnDoubleTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(reshard_comm_create_local(1, nullptr, &comm_), RESHARD_OK); }
  void TearDown() override {
    reshard_comm_destroy(comm_);
    EXPECT_EQ(cuda_double_num_live(), 0);
  }
  reshard_comm_t comm_ = nullptr;
};

TEST_F(LibraryOnDoubleTest, DeviceMemoryIsMadeFilledAndReadThroughTheApi) {
  std::int32_t count = 0;
  ASSERT_EQ(reshard_device_count(&count), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(count, 4);
  void* ptr = nullptr;
  ASSERT_EQ(reshard_alloc_on(comm_, RESHARD_MEMORY_CUDA, 1, 4000, &ptr), RESHARD_OK) << reshard_last_error();
  std::vector<int> in(1000);
  std::iota(in.begin(), in.end(), 0);
  std::vector<int> out(1000);
  ASSERT_EQ(reshard_copy(ptr, in.data(), 4000), RESHARD_OK) << reshard_last_error();
  ASSERT_EQ(reshard_copy(out.data(), ptr, 4000), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(out, in);
  EXPECT_EQ(cuda_double_has_context(0), 0) << "nobody asked for device 0";
  EXPECT_EQ(reshard_free(comm_, ptr), RESHARD_OK);
}

TEST_F(LibraryOnDoubleTest, DeviceThatIsNotThereIsSaid) {
  void* ptr = nullptr;
  EXPECT_EQ(reshard_alloc_on(comm_, RESHARD_MEMORY_CUDA, 9, 4000, &ptr), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), testing::HasSubstr("there is no device 9: this process sees 4"));
}

}  // namespace
