// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <mutex>

#include "src/base/status.h"
#include "src/device/memory.h"

namespace reshard::api {

/// The device memory that was allocated through a comm, and is not freed yet. Any thread.
class DeviceAllocations {
 public:
  /// Zeroed when it returns. A size of 0 gives a pointer that can be freed, as any other.
  Result<void*> allocate(std::int32_t device, std::size_t size_bytes);

  bool free(void* ptr);  ///< false: it is none of these

 private:
  std::mutex mutex_;
  std::map<void*, DeviceMemory> memory_;
};

}  // namespace reshard::api
