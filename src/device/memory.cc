// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/memory.h"

#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "src/device/cuda_call.h"
#include "src/device/device.h"
#include "src/device/page_memory.h"

namespace reshard {
namespace {

cudaStream_t stream_of(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

/// With what is free, so that the reader sees whether another process has taken the rest.
Status out_of_memory(Status status, std::int32_t device) {
  std::size_t free_bytes = 0;
  std::size_t all_bytes = 0;
  if (cudaMemGetInfo(&free_bytes, &all_bytes) != cudaSuccess) {
    (void)cudaGetLastError();
    return status;
  }
  return {status.code(),
          fmt::format("{}; device {} has {} of {} bytes free", status.message(), device, free_bytes, all_bytes)};
}

}  // namespace

Result<DeviceMemory> DeviceMemory::allocate(std::int32_t device, std::size_t size_bytes, Export reach) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  DeviceMemory memory;
  memory.device_ = device;
  if (size_bytes == 0) return memory;
  if (reach == Export::kDomain) {
    Result<std::optional<PageRange>> pages = allocate_domain_pages(device, size_bytes);
    if (!pages.ok()) {
      const bool is_full = pages.status().code() == RESHARD_ERR_OUT_OF_MEMORY;
      return is_full ? out_of_memory(pages.take_status(), device) : pages.take_status();
    }
    if (pages->has_value()) {
      memory.data_ = (*pages)->base;
      memory.reserved_bytes_ = (*pages)->size_bytes;
    }
  }
  if (memory.data_ == nullptr) {
    const cudaError_t code = cudaMalloc(&memory.data_, size_bytes);
    Status status = cuda_status(fmt::format("cudaMalloc of {} bytes on device {}", size_bytes, device), code);
    if (code == cudaErrorMemoryAllocation) return out_of_memory(std::move(status), device);
    RESHARD_TRY(std::move(status));
  }
  memory.size_bytes_ = size_bytes;
  return memory;
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  const Result<DeviceGuard> guard = DeviceGuard::enter(device_);
  if (reserved_bytes_ != 0) {
    (void)unmap_pages(data_, reserved_bytes_);
  } else {
    (void)cuda_status("cudaFree", cudaFree(data_));
  }
}

Result<PinnedMemory> PinnedMemory::allocate(std::int32_t device, std::size_t size_bytes) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  PinnedMemory memory;
  memory.device_ = device;
  if (size_bytes == 0) return memory;
  RESHARD_TRY(cuda_status(fmt::format("cudaHostAlloc of {} bytes", size_bytes),
                          cudaHostAlloc(&memory.data_, size_bytes, cudaHostAllocPortable)));
  memory.size_bytes_ = size_bytes;
  std::memset(memory.data_, 0, size_bytes);
  return memory;
}

PinnedMemory::~PinnedMemory() {
  if (data_ == nullptr) return;
  const Result<DeviceGuard> guard = DeviceGuard::enter(device_);
  (void)cuda_status("cudaFreeHost", cudaFreeHost(data_));
}

Status copy_async(void* destination, const void* source, std::size_t size_bytes, const Stream& stream) {
  if (size_bytes == 0) return {};
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(stream.device()));
  const cudaError_t code = cudaMemcpyAsync(destination, source, size_bytes, cudaMemcpyDefault, stream_of(stream));
  if (code == cudaSuccess) return {};  // before any text is made: runs allocate nothing
  return cuda_status(fmt::format("cudaMemcpyAsync of {} bytes", size_bytes), code);
}

Status fill_async(void* destination, std::uint8_t value, std::size_t size_bytes, const Stream& stream) {
  if (size_bytes == 0) return {};
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(stream.device()));
  const cudaError_t code = cudaMemsetAsync(destination, value, size_bytes, stream_of(stream));
  if (code == cudaSuccess) return {};
  return cuda_status(fmt::format("cudaMemsetAsync of {} bytes", size_bytes), code);
}

Status copy_and_wait(void* destination, const void* source, std::size_t size_bytes, const Stream& stream) {
  RESHARD_TRY(copy_async(destination, source, size_bytes, stream));
  return stream.synchronize();
}

}  // namespace reshard
