// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory that the caller gets of a comm. That of the host belongs to the transport, whose shared memory it is; that of
// a device to the comm, since any process can map it and no transport has a part in it.
#include "src/api/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/device/device.h"
#include "src/device/memory_space.h"
#include "src/device/stream.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::guard;

namespace reshard::api {

Result<void*> DeviceAllocations::allocate(std::int32_t device, std::size_t size_bytes) {
  RESHARD_TRY(check_device(device));
  RESHARD_TRY(const Stream stream, Stream::create(device));
  RESHARD_TRY(DeviceMemory memory, DeviceMemory::allocate(device, std::max<std::size_t>(size_bytes, 1)));
  RESHARD_TRY(fill_async(memory.data(), 0, memory.size_bytes(), stream));
  RESHARD_TRY(stream.synchronize());
  void* const ptr = memory.data();
  const std::lock_guard lock(mutex_);
  memory_.emplace(ptr, std::move(memory));
  return ptr;
}

bool DeviceAllocations::free(void* ptr) {
  const std::lock_guard lock(mutex_);
  return memory_.erase(ptr) > 0;
}

}  // namespace reshard::api

namespace {

bool is_on_device(const PointerInfo& info) {
  return info.space == MemorySpace::kDevice || info.space == MemorySpace::kManaged;
}

Status copy(void* dst, const void* src, std::size_t size_bytes) {
  RESHARD_TRY(const PointerInfo to, pointer_info(dst));
  RESHARD_TRY(const PointerInfo from, pointer_info(src));
  if (!is_on_device(to) && !is_on_device(from)) {
    std::memcpy(dst, src, size_bytes);
    return {};
  }
  RESHARD_TRY(const Stream stream, Stream::create(is_on_device(to) ? to.device : from.device));
  return copy_and_wait(dst, src, size_bytes, stream);
}

}  // namespace

extern "C" {

reshard_status_t reshard_alloc(reshard_comm_t comm, size_t size_bytes, void** ptr) {
  if (ptr != nullptr) *ptr = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(ptr, "ptr"));
    const std::lock_guard turn(comm->transport->turn());
    RESHARD_TRY(*ptr, comm->transport->allocate(size_bytes));
    return {};
  });
}

reshard_status_t reshard_alloc_on(reshard_comm_t comm, reshard_memory_kind_t memory, int32_t device, size_t size_bytes,
                                  void** ptr) {
  if (memory == RESHARD_MEMORY_HOST && device == -1) return reshard_alloc(comm, size_bytes, ptr);
  if (ptr != nullptr) *ptr = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(ptr, "ptr"));
    if (memory == RESHARD_MEMORY_HOST) {
      return invalid_argument(fmt::format("host memory was asked for on device {}; give -1", device));
    }
    if (memory != RESHARD_MEMORY_CUDA) {
      return invalid_argument(fmt::format("there is no memory of kind {}", static_cast<int>(memory)));
    }
    RESHARD_TRY(*ptr, comm->device_memory->allocate(device, size_bytes));
    return {};
  });
}

reshard_status_t reshard_free(reshard_comm_t comm, void* ptr) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    if (ptr == nullptr || comm->device_memory->free(ptr)) return {};
    const std::lock_guard turn(comm->transport->turn());
    return comm->transport->free(ptr);
  });
}

reshard_status_t reshard_device_count(int32_t* count) {
  if (count != nullptr) *count = 0;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(count, "count"));
    RESHARD_TRY(*count, num_devices());
    return {};
  });
}

reshard_status_t reshard_copy(void* dst, const void* src, size_t size_bytes) {
  return guard([&]() -> Status {
    if (size_bytes == 0) return {};
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(check_not_null(src, "src"));
    return copy(dst, src, size_bytes);
  });
}

}  // extern "C"
