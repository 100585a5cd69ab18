// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <ucp/api/ucp.h>

#include <unordered_map>

#include "src/transport/range_map.h"
#include "src/transport/ucx_worker.h"

namespace reshard {

/// Memory that UCX allocates, each piece a shared segment of its own where shared memory is to be had, and the segments
/// of peers that are mapped here. A key is the address in the owner, the size of the whole segment, and UCX's packed
/// rkey.
class UcxMemory {
 public:
  UcxMemory(UcxWorker* worker, std::int32_t rank) : worker_(worker), rank_(rank) {}
  ~UcxMemory();
  UcxMemory(const UcxMemory&) = delete;
  UcxMemory& operator=(const UcxMemory&) = delete;

  Result<void*> allocate(std::size_t size_bytes);
  Status free(void* ptr);
  MemoryKey export_range(const void* ptr, std::size_t size_bytes) const;
  Result<void*> map(std::int32_t peer, const MemoryKey& key);
  void unmap(void* ptr);

 private:
  UcxWorker* const worker_;
  const std::int32_t rank_;
  RangeMap<ucp_mem_h> allocations_;
  // By address, for there may be thousands: rkeys, which keep the segments attached. The same segment may be mapped
  // more than once, each time with an rkey of its own.
  std::unordered_multimap<void*, ucp_rkey_h> mappings_;
};

}  // namespace reshard
