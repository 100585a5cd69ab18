// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <utility>

#include "src/device/peer_memory.h"
#include "src/transport/peer_memory.h"

namespace reshard {

/// Memory of a device that kernels of other ranks read in place, and theirs. It allocates nothing: buffers are the
/// caller's, and any device memory may be exported. Which of it can be mapped shows when a key is made, or mapped.
class CudaPeerMemory final : public PeerMemory {
 public:
  static Result<std::unique_ptr<CudaPeerMemory>> create(std::int32_t device);

  MemorySpace space() const override { return MemorySpace::kDevice; }
  std::int32_t device() const override { return memory_->device(); }
  bool shares_memory(std::int32_t) const override { return true; }
  Result<void*> allocate(std::size_t size_bytes) override;
  Status free(void* ptr) override;
  MemoryKey export_memory(const void* ptr, std::size_t size_bytes) override;
  Result<void*> map(std::int32_t peer, const MemoryKey& key) override;
  void unmap(std::int32_t peer, const MemoryKey& key, void* ptr) override;

 private:
  explicit CudaPeerMemory(std::unique_ptr<DevicePeerMemory> memory) : memory_(std::move(memory)) {}
  std::unique_ptr<DevicePeerMemory> memory_;
};

}  // namespace reshard
