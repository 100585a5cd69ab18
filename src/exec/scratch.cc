// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/scratch.h"

#include <mutex>
#include <utility>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

// Of each buffer in the memory of its side: what kernels read in wide loads.
constexpr std::int64_t kAlignment = 256;

}  // namespace

Status Scratch::allocate(const Plan& plan, std::int32_t rank, PeerMemory* memory) {
  memory_ = memory;
  if (plan.conversions.empty()) return {};
  RESHARD_TRY(allocate_side(*plan.src, plan.num_given_src_buffers(), rank, &src_)
                  .with_context("scales of this rank's source tensors"));
  return allocate_side(*plan.dst, plan.num_given_dst_buffers(), rank, &dst_)
      .with_context("places where this rank's tensors land before they are converted");
}

Result<void*> Scratch::allocate_block(std::size_t size_bytes) {
  if (memory_->space() == MemorySpace::kDevice) {
    RESHARD_TRY(DeviceMemory block, DeviceMemory::allocate(memory_->device(), size_bytes));
    return device_blocks_.emplace_back(std::move(block)).data();
  }
  RESHARD_TRY(void* block, memory_->allocate(size_bytes));
  return blocks_.emplace_back(block);
}

/// One allocation for all: there may be thousands of small ones.
Status Scratch::allocate_side(const ModelLayout& layout, std::int64_t first, std::int32_t rank,
                              std::vector<BoundBuffer>* buffers) {
  std::int64_t total = 0;
  std::vector<std::int64_t> offsets;
  for (const std::int64_t id : layout.buffers_of(rank)) {
    if (id < first) continue;
    buffers->push_back({id, nullptr, layout.buffer_size_bytes(rank, id)});
    offsets.push_back(total);
    total += ceil_div(buffers->back().size_bytes, kAlignment) * kAlignment;
  }
  if (total == 0) return {};
  RESHARD_TRY(void* const memory, allocate_block(static_cast<std::size_t>(total)));
  size_bytes_ += total;
  for (std::size_t i = 0; i < buffers->size(); ++i) (*buffers)[i].data = static_cast<std::byte*>(memory) + offsets[i];
  return {};
}

void Scratch::release() {
  for (void* block : blocks_) static_cast<void>(memory_->free(block).ok());
  blocks_.clear();
  device_blocks_.clear();
  src_.clear();
  dst_.clear();
}

/// That of the host needs no keeping: no message goes straight to or from memory from which it cannot be taken back.
void Scratch::abandon() {
  static auto& kept = *new std::vector<DeviceMemory>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  for (DeviceMemory& block : device_blocks_) kept.push_back(std::move(block));
  release();
}

}  // namespace reshard
