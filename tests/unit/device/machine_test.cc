// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What devices there are, which of them serve, and whose turn they are after a call.
#include <memory>
#include <thread>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/memory_space.h"
#include "tests/unit/device/device_under_test.h"

namespace reshard {
namespace {

using MachineTest = DeviceTest;

TEST_F(MachineTest, SaysWhatItIs) {
  EXPECT_TRUE(built_with_cuda());
  const Result<DeviceInfo> info = device_info(2);
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info->index, 2);
  EXPECT_EQ(info->name, "double of a GPU, number 2");
  EXPECT_EQ(info->major, 9);
  EXPECT_EQ(info->num_sms, 132);
  EXPECT_EQ(info->l2_bytes, 50 << 20);
  EXPECT_EQ(info->memory_bytes, std::int64_t{64} << 30);
  EXPECT_EQ(info->uuid, "03000000000000000000000000000000");
}

TEST_F(MachineTest, NoDriverIsSaidWithWhatIsNeeded) {
  cuda_double_set_driver(0);
  const char* const text = "no CUDA driver was found.*CUDA 13.0 or newer.*driver 580";
  expect_error(num_devices().status(), RESHARD_ERR_NOT_SUPPORTED, text);
  expect_error(check_device(0), RESHARD_ERR_NOT_SUPPORTED, text);
}

TEST_F(MachineTest, DriverThatIsTooOldIsSaidWithBothVersions) {
  cuda_double_set_driver(12040);
  expect_error(check_device(0), RESHARD_ERR_NOT_SUPPORTED, "serves CUDA 12.4, but device memory needs CUDA 13.0.*580");
}

TEST_F(MachineTest, NewerDriverServes) {
  cuda_double_set_driver(14020);
  EXPECT_TRUE(check_device(0).ok());
}

TEST_F(MachineTest, NoDeviceIsSaid) {
  cuda_double_set_devices(0);
  expect_error(check_device(0), RESHARD_ERR_NOT_SUPPORTED, "finds no device.*nvidia-smi -L.*CUDA_VISIBLE_DEVICES");
}

TEST_F(MachineTest, DeviceThatIsNotThereIsSaidWithHowManyAre) {
  for (const std::int32_t index : {-1, 4, 1 << 30}) {
    expect_error(check_device(index), RESHARD_ERR_INVALID_ARGUMENT,
                 "there is no device " + std::to_string(index) + ": this process sees 4");
    expect_error(DeviceGuard::enter(index).status(), RESHARD_ERR_INVALID_ARGUMENT, "there is no device");
  }
}

TEST_F(MachineTest, ArchitecturesToComeServeAndThoseThatAreTooOldDoNot) {
  for (const int major : {8, 9, 10, 12, 99}) {
    cuda_double_set_capability(major, 1);
    EXPECT_TRUE(check_device(0).ok()) << major;
  }
  cuda_double_set_capability(7, 5);
  expect_error(check_device(1), RESHARD_ERR_NOT_SUPPORTED,
               "device 1 .double of a GPU, number 1. has compute capability 7.5, but 8.0 or newer is needed");
}

TEST_F(MachineTest, FailureOfTheRuntimeCarriesTheCallAndTheCodesNameAndText) {
  cuda_double_fail("cudaGetDeviceCount", 1, cudaErrorUnknown);
  expect_error(num_devices().status(), RESHARD_ERR_TRANSPORT,
               "cudaGetDeviceCount failed: cudaErrorUnknown .999.: unknown error$");
  cuda_double_fail("cudaGetDeviceProperties", 1, cudaErrorECCUncorrectable);
  expect_error(device_info(0).status(), RESHARD_ERR_TRANSPORT,
               "cudaGetDeviceProperties failed: .*214.: uncorrectable ECC error.*end it");
}

TEST_F(MachineTest, GuardRestoresTheCallersDevice) {
  ASSERT_EQ(cudaSetDevice(3), cudaSuccess);
  int device = -1;
  {
    const Result<DeviceGuard> guard = DeviceGuard::enter(1);
    ASSERT_TRUE(guard.ok());
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 1);
    {
      const Result<DeviceGuard> inner = DeviceGuard::enter(2);
      ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
      EXPECT_EQ(device, 2);
    }
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 1);
  }
  ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 3);
}

TEST_F(MachineTest, GuardAroundManyCallsMakesThemCheap) {
  const Result<DeviceGuard> guard = DeviceGuard::enter(1);
  cuda_double_reset_counters();
  const Result<DeviceGuard> inner = DeviceGuard::enter(1);
  EXPECT_EQ(cuda_double_count().calls, 1);  // which context is current
}

TEST_F(MachineTest, ThreadWithoutAContextHasNoneAfterwards) {
  std::thread([] {
    {
      const Result<DeviceMemory> memory = DeviceMemory::allocate(2, 100);
      ASSERT_TRUE(memory.ok());
    }
    int device = -1;
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 0);
  }).join();
}

TEST_F(MachineTest, PointersAreOfTheSpaceThatTheDriverSays) {
  const Result<DeviceMemory> memory = DeviceMemory::allocate(2, 100);
  const Result<PinnedMemory> pinned = PinnedMemory::allocate(2, 100);
  ASSERT_TRUE(memory.ok() && pinned.ok());
  void* managed = nullptr;
  ASSERT_EQ(cudaMallocManaged(&managed, 100, cudaMemAttachGlobal), cudaSuccess);
  const int on_stack = 0;
  struct {
    const void* ptr;
    MemorySpace space;
    std::int32_t device;
  } const cases[] = {{&on_stack, MemorySpace::kHost, -1},
                     {nullptr, MemorySpace::kHost, -1},
                     {static_cast<std::byte*>(memory->data()) + 99, MemorySpace::kDevice, 2},
                     {static_cast<std::byte*>(pinned->data()) + 99, MemorySpace::kPinned, -1},
                     {managed, MemorySpace::kManaged, 0}};
  for (const auto& [ptr, space, device] : cases) {
    const Result<PointerInfo> info = pointer_info(ptr);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->space, space) << memory_space_name(space);
    if (space != MemorySpace::kManaged) {
      EXPECT_EQ(info->device, device);
    }
  }
  EXPECT_TRUE(check_device_memory(memory->data(), 2, "the source").ok());
  expect_error(check_device_memory(memory->data(), 1, "the source"), RESHARD_ERR_INVALID_ARGUMENT,
               "the source at 0x.* is memory of device 2, but this rank uses device 1");
  expect_error(check_device_memory(&on_stack, 1, "the source"), RESHARD_ERR_INVALID_ARGUMENT,
               "the source at 0x.* is host memory, but memory of device 1 is needed");
  expect_error(check_device_memory(pinned->data(), 1, "buffer 3"), RESHARD_ERR_INVALID_ARGUMENT,
               "buffer 3 at 0x.* is pinned memory");
  EXPECT_EQ(cudaFree(managed), cudaSuccess);
}

TEST_F(MachineTest, AskingForASpaceMakesNoContext) {
  const int on_stack = 0;
  std::thread([&] { EXPECT_TRUE(pointer_info(&on_stack).ok()); }).join();
  EXPECT_EQ(cuda_double_calls_of("cudaPointerGetAttributes"), 0);
  EXPECT_EQ(cuda_double_calls_of("cudaSetDevice"), 0);
}

TEST_F(MachineTest, OtherErrorsOfTheDriverAreNotTakenForHostMemory) {
  const int on_stack = 0;
  cuda_double_fail("cuPointerGetAttributes", 1, CUDA_ERROR_UNKNOWN);
  expect_error(pointer_info(&on_stack).status(), RESHARD_ERR_TRANSPORT, "cuPointerGetAttributes failed: .*999");
}

}  // namespace
}  // namespace reshard
