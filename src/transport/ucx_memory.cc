// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/ucx_memory.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "src/transport/memory_left.h"

namespace reshard {
namespace {

// In front of UCX's packed key, which does not tell them: where in the segment the range begins, as its owner sees it,
// and how much address space the reader will need.
struct KeyHead {
  std::uint64_t address;
  std::uint64_t segment_bytes;
};

}  // namespace

UcxMemory::~UcxMemory() {
  // The peers' segments first: detaching them needs nothing of ours, and ours may still be mapped by peers, for whom
  // the kernel keeps it.
  for (const auto& [ptr, rkey] : mappings_) ucp_rkey_destroy(rkey);
  for (const auto& [begin, range] : allocations_) ucp_mem_unmap(worker_->context(), range.value);
}

Result<void*> UcxMemory::allocate(std::size_t size_bytes) {
  // UCX 1.13 dies of a signal when the address space that it takes for granted is not there.
  RESHARD_TRY(check_memory_left(size_bytes));
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_FLAGS;
  params.length = std::max<std::size_t>(size_bytes, 1);
  params.flags = UCP_MEM_MAP_ALLOCATE;
  ucp_mem_h memory = nullptr;
  if (ucs_status_t status = ucp_mem_map(worker_->context(), &params, &memory); status != UCS_OK) {
    return ucx_error(fmt::format("UCX could not allocate {} bytes of shared memory", size_bytes), status);
  }
  ucp_mem_attr_t attributes{};
  attributes.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS | UCP_MEM_ATTR_FIELD_LENGTH;
  if (ucs_status_t status = ucp_mem_query(memory, &attributes); status != UCS_OK) {
    ucp_mem_unmap(worker_->context(), memory);
    return ucx_error("UCX did not tell the address of its memory", status);
  }
  // Makes the pages resident, too: on this rank's NUMA node, and before the first run is timed.
  std::memset(attributes.address, 0, params.length);
  allocations_.insert(attributes.address, params.length, memory);
  return attributes.address;
}

Status UcxMemory::free(void* ptr) {
  const auto allocation = allocations_.take(ptr);
  if (!allocation) return invalid_argument(fmt::format("{} was not allocated by this transport", ptr));
  ucp_mem_unmap(worker_->context(), allocation->value);
  return {};
}

MemoryKey UcxMemory::export_range(const void* ptr, std::size_t size_bytes) const {
  const auto* allocation = allocations_.find(ptr, size_bytes);
  if (allocation == nullptr) return {};
  void* rkey = nullptr;
  std::size_t rkey_bytes = 0;
  if (ucp_rkey_pack(worker_->context(), allocation->value, &rkey, &rkey_bytes) != UCS_OK) return {};
  const KeyHead head{reinterpret_cast<std::uint64_t>(ptr), allocation->size_bytes};
  MemoryKey key(sizeof(head) + rkey_bytes);
  std::memcpy(key.data(), &head, sizeof(head));
  std::memcpy(key.data() + sizeof(head), rkey, rkey_bytes);
  ucp_rkey_buffer_release(rkey);
  return key;
}

Result<void*> UcxMemory::map(std::int32_t peer, const MemoryKey& key) {
  if (key.empty()) return nullptr;
  KeyHead head{};
  if (key.size() <= sizeof(head)) {
    return invalid_argument(fmt::format("a memory key of {} bytes is not from this transport", key.size()));
  }
  std::memcpy(&head, key.data(), sizeof(head));
  // Its own memory needs no second mapping.
  if (peer == rank_) return reinterpret_cast<void*>(head.address);
  // UCX 1.13 attaches a segment as it unpacks the key, and dies of a signal when that fails.
  if (worker_->is_near(peer)) RESHARD_TRY(check_address_space(head.segment_bytes));
  RESHARD_TRY(ucp_ep_h endpoint, worker_->endpoint(peer));
  ucp_rkey_h rkey = nullptr;
  const ucs_status_t unpacked = ucp_ep_rkey_unpack(endpoint, key.data() + sizeof(head), &rkey);
  // No transport of this worker reaches such memory: not mapped, and no error, as the bytes can be sent.
  if (unpacked == UCS_ERR_UNREACHABLE) return nullptr;
  if (unpacked != UCS_OK) return ucx_error(fmt::format("UCX refused a memory key of rank {}", peer), unpacked);
  void* ptr = nullptr;
  if (ucp_rkey_ptr(rkey, head.address, &ptr) != UCS_OK) {  // another host, or no shared memory between the two
    ucp_rkey_destroy(rkey);
    return nullptr;
  }
  mappings_.emplace(ptr, rkey);
  return ptr;
}

void UcxMemory::unmap(void* ptr) {
  const auto it = mappings_.find(ptr);
  if (it == mappings_.end()) return;
  ucp_rkey_destroy(it->second);
  mappings_.erase(it);
}

}  // namespace reshard
