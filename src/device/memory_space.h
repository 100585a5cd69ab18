// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where bytes lie. The question decides who may touch them: host code must never read or write device memory, and a
// kernel must never follow a pointer to plain host memory.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/status.h"

namespace reshard {

enum class MemorySpace : std::uint8_t {
  kHost,     ///< what malloc gives; no device can reach it
  kPinned,   ///< host memory that the driver has locked; the host and every device reach it
  kDevice,   ///< memory of one device; the host must not touch it
  kManaged,  ///< moves between host and devices on access
};

/// "host", "pinned", "device" or "managed", for messages.
const char* memory_space_name(MemorySpace space);

struct PointerInfo {
  MemorySpace space = MemorySpace::kHost;
  std::int32_t device = -1;  ///< whose memory it is, for device and managed memory; else -1
};

/// What the driver says of the byte at `ptr`, which may lie anywhere inside an allocation. On a machine without a
/// driver or a device, and in a build without CUDA, all memory is host memory. Makes no context on any device. Device
/// memory that a peer process exported and this one has mapped is kDevice of the device that it is mapped for.
Result<PointerInfo> pointer_info(const void* ptr);

/// RESHARD_ERR_INVALID_ARGUMENT unless kernels of `device` can read and write `ptr` as their own device's memory:
/// "`what` is host memory", "is memory of device 1, but this rank uses device 0". `what` names the buffer, for the
/// message.
Status check_device_memory(const void* ptr, std::int32_t device, const std::string& what);

}  // namespace reshard
