// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The room as it is in a build without the toolkit, compiled into this program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/device/device.h"
#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/memory_space.h"
#include "src/device/peer_memory.h"
#include "src/device/profile_range.h"

namespace reshard {
namespace {

TEST(WithoutCudaTest, EveryEntranceSaysWhatToBuildWith) {
  EXPECT_FALSE(built_with_cuda());
  const Status all[] = {check_device(0),
                        num_devices().status(),
                        device_info(0).status(),
                        DeviceGuard::enter(0).status(),
                        Stream::create(0).status(),
                        Stream::borrow(nullptr, 0).status(),
                        Event::create(0).status(),
                        DeviceMemory::allocate(0, 1).status(),
                        PinnedMemory::allocate(0, 1).status(),
                        ReadinessFlags::create(0, 1).status(),
                        DevicePeerMemory::create(0).status()};
  for (const Status& status : all) {
    EXPECT_EQ(status.code(), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_THAT(status.message(), testing::ContainsRegex("this build of reshard has no CUDA.*toolkit 13.0 or newer"));
  }
}

TEST(WithoutCudaTest, AllMemoryIsHostMemory) {
  const int on_stack = 0;
  const ProfileRange range("nobody sees it");
  const Result<PointerInfo> info = pointer_info(&on_stack);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->space, MemorySpace::kHost);
}

}  // namespace
}  // namespace reshard
