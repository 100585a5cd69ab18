// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/cuda_peer_memory.h"

#include <fmt/format.h>

namespace reshard {

Result<std::unique_ptr<CudaPeerMemory>> CudaPeerMemory::create(std::int32_t device) {
  RESHARD_TRY(std::unique_ptr<DevicePeerMemory> memory, DevicePeerMemory::create(device));
  return std::unique_ptr<CudaPeerMemory>(new CudaPeerMemory(std::move(memory)));
}

Result<void*> CudaPeerMemory::allocate(std::size_t size_bytes) {
  return Status{RESHARD_ERR_INTERNAL,
                fmt::format("{} bytes of device memory were asked of who only maps it", size_bytes)};
}

Status CudaPeerMemory::free(void* /*ptr*/) {
  return {RESHARD_ERR_INTERNAL, "device memory was given back to who only maps it"};
}

/// What CUDA reports here is no reason to fail: bytes that cannot be mapped are sent.
MemoryKey CudaPeerMemory::export_memory(const void* ptr, std::size_t size_bytes) {
  Result<MemoryKey> key = memory_->export_memory(ptr, size_bytes);
  return key.ok() ? std::move(*key) : MemoryKey();
}

Result<void*> CudaPeerMemory::map(std::int32_t /*peer*/, const MemoryKey& key) {
  return memory_->map(key);
}

void CudaPeerMemory::unmap(std::int32_t /*peer*/, const MemoryKey& key, void* ptr) {
  static_cast<void>(memory_->unmap(key, ptr).ok());  // what cannot be unmapped goes with the process
}

}  // namespace reshard
