// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/status.h"
#include "src/device/memory_space.h"

namespace reshard {

/// What another rank needs to map a piece of memory; a few hundred bytes, sent out of band. Empty: cannot be mapped.
using MemoryKey = std::vector<std::byte>;

/// Memory that other ranks may read in place, and theirs.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;

  /// Of what it exports and maps.
  virtual MemorySpace space() const { return MemorySpace::kHost; }
  virtual std::int32_t device() const { return -1; }  ///< of memory of a device

  /// Whether map() may give memory of this peer; equal on both ends.
  virtual bool shares_memory(std::int32_t peer) const = 0;

  /// Memory that peers on this host can map; page aligned, zeroed. free() refuses pointers it did not give.
  virtual Result<void*> allocate(std::size_t size_bytes) = 0;
  virtual Status free(void* ptr) = 0;

  /// A key of [ptr, ptr + size_bytes); empty when it cannot be mapped by others: memory of the host that is not from
  /// allocate().
  virtual MemoryKey export_memory(const void* ptr, std::size_t size_bytes) = 0;

  /// The address at which this rank sees the first byte of the peer's exported range, or null when it cannot be mapped
  /// (another host). Valid until this object is destroyed or unmap().
  virtual Result<void*> map(std::int32_t peer, const MemoryKey& key) = 0;
  virtual void unmap(std::int32_t peer, const MemoryKey& key, void* ptr) = 0;
};

}  // namespace reshard
