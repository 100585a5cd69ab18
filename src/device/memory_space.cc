// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/memory_space.h"

#include <fmt/format.h>

namespace reshard {

const char* memory_space_name(MemorySpace space) {
  switch (space) {
    case MemorySpace::kHost:
      return "host";
    case MemorySpace::kPinned:
      return "pinned";
    case MemorySpace::kDevice:
      return "device";
    case MemorySpace::kManaged:
      return "managed";
  }
  return "unknown";
}

Status check_device_memory(const void* ptr, std::int32_t device, const std::string& what) {
  RESHARD_TRY(const PointerInfo info, pointer_info(ptr));
  if (info.space != MemorySpace::kDevice) {
    return invalid_argument(fmt::format("{} at {} is {} memory, but memory of device {} is needed", what, ptr,
                                        memory_space_name(info.space), device));
  }
  if (info.device != device) {
    return invalid_argument(
        fmt::format("{} at {} is memory of device {}, but this rank uses device {}", what, ptr, info.device, device));
  }
  return {};
}

}  // namespace reshard
