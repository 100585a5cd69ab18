// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <array>

#include "src/device/cuda_call.h"
#include "src/device/driver.h"
#include "src/device/memory_space.h"

namespace reshard {

// The driver is asked and not cudaPointerGetAttributes: that makes a context on the thread's device, which takes
// hundreds of megabytes of a device that nobody may mean to use.
Result<PointerInfo> pointer_info(const void* ptr) {
  const Result<const Driver*> driver = Driver::get();
  if (!driver.ok()) {
    // Without a driver and a device no memory of one can have been made.
    if (driver.status().code() == RESHARD_ERR_NOT_SUPPORTED) return PointerInfo{};
    return driver.status();
  }
  unsigned int type = 0;  // stays 0 for what the driver does not know
  unsigned int is_managed = 0;
  int device = -1;
  std::array<CUpointer_attribute, 3> asked{CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                           CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  std::array<void*, 3> answers{&type, &is_managed, &device};
  RESHARD_TRY(driver_status("cuPointerGetAttributes",
                            (*driver)->cuPointerGetAttributes(asked.size(), asked.data(), answers.data(),
                                                              reinterpret_cast<CUdeviceptr>(ptr))));
  if (is_managed != 0) return PointerInfo{MemorySpace::kManaged, device};
  if (type == CU_MEMORYTYPE_DEVICE) return PointerInfo{MemorySpace::kDevice, device};
  if (type == CU_MEMORYTYPE_HOST) return PointerInfo{MemorySpace::kPinned, -1};
  return PointerInfo{};
}

}  // namespace reshard
