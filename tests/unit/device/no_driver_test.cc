// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The room on the real runtime. Where the machine has no driver every entrance must say so; with one this says which.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/device/device.h"
#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/memory_space.h"
#include "src/device/peer_memory.h"

namespace reshard {
namespace {

TEST(NoDriverTest, EveryEntranceSaysThatThereIsNoneAndWhatIsNeeded) {
  const Status status = check_device(0);
  if (status.ok()) GTEST_SKIP() << "this machine has a driver and a device";
  if (status.message().find("no CUDA driver was found") == std::string::npos) {
    GTEST_SKIP() << "this machine has a driver: " << status.message();
  }
  const Status others[] = {status,
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
  for (const Status& other : others) {
    EXPECT_EQ(other.code(), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_EQ(other.message(),
              "no CUDA driver was found (libcuda.so.1 does not load): device memory needs one for CUDA 13.0 or newer "
              "(NVIDIA driver 580 or newer)");
  }
}

TEST(NoDriverTest, MemoryIsHostMemory) {
  const int on_stack = 0;
  const Result<PointerInfo> info = pointer_info(&on_stack);
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info->space, MemorySpace::kHost);
  EXPECT_EQ(check_device_memory(&on_stack, 0, "x").code(), RESHARD_ERR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace reshard
