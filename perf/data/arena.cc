// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// All buffers of a rank in one allocation, each between guards of known bytes: guard, buffer, guard, buffer, ...,
// guard. Who writes outside a buffer hits a guard, and who reads what was never written reads poison and not zeros,
// which are right too often. With device memory the same bytes stand twice, at equal distances from base_ and device_:
// what fills and checks them works on the host's copy.
#include "perf/data/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "perf/engine/error.h"
#include "perf/engine/layout_view.h"

namespace reshard::perf {
namespace {

constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kAlignBytes = 512;  // as the caching allocators of the frameworks align
constexpr std::align_val_t kHeapAlignment{4096};

bool is_poisoned(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte value) { return value == Arena::kPoison; });
}

}  // namespace

Arena::Arena(reshard_comm_t comm, reshard_layout_t layout, std::int32_t rank, const MemoryChoice& choice)
    : comm_(comm), memory_(choice), total_bytes_(kGuardBytes) {
  std::vector<std::size_t> offsets;
  for (const reshard_buffer_info_t& info : buffers_of(layout, rank)) {
    const auto size_bytes = static_cast<std::size_t>(info.size_bytes);
    offsets.push_back(total_bytes_);
    buffers_.push_back({info.id, info.name, nullptr, size_bytes});
    total_bytes_ = (total_bytes_ + size_bytes + kGuardBytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  }
  void* memory = nullptr;
  if (is_on_device()) {
    void* device = nullptr;
    check(reshard_alloc_on(comm_, memory_.kind, memory_.device, total_bytes_, &device), "allocating device buffers");
    device_ = static_cast<std::byte*>(device);
  }
  if (is_on_heap()) {
    memory = ::operator new(total_bytes_, kHeapAlignment);
  } else {
    check(reshard_alloc(comm_, total_bytes_, &memory), "allocating buffers");
  }
  base_ = static_cast<std::byte*>(memory);
  for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].ptr = base_ + offsets[i];
  poison();
}

Arena::~Arena() {
  if (is_on_heap()) ::operator delete(base_, kHeapAlignment);
  void* allocated = is_on_device() ? device_ : is_on_heap() ? nullptr : base_;
  if (allocated == nullptr || reshard_free(comm_, allocated) == RESHARD_OK) return;
  fmt::print(stderr, "warning: freeing buffers: {}\n", reshard_last_error());
}

reshard_buffer_t Arena::binding_buffer(const Buffer& buffer) const {
  reshard_buffer_t bound;
  reshard_buffer_init(&bound);
  bound.memory = memory_.kind;
  bound.device = memory_.device;
  bound.id = buffer.id;
  bound.ptr = is_on_device() ? device_ + (buffer.ptr - base_) : buffer.ptr;
  bound.size_bytes = buffer.size_bytes;
  return bound;
}

reshard_buffer_t Arena::binding_buffer(std::int64_t id) const {
  return binding_buffer(find(id));
}

std::vector<reshard_buffer_t> Arena::binding_buffers() const {
  std::vector<reshard_buffer_t> bound;
  for (const Buffer& buffer : buffers_) bound.push_back(binding_buffer(buffer));
  return bound;
}

void Arena::publish() const {
  if (is_on_device()) check(reshard_copy(device_, base_, total_bytes_), "copying buffers to the device");
}

void Arena::fetch() const {
  if (is_on_device()) check(reshard_copy(base_, device_, total_bytes_), "copying buffers from the device");
}

void Arena::poison() {
  std::memset(base_, std::to_integer<int>(kPoison), total_bytes_);
  publish();
}

std::vector<std::string> Arena::damaged_guards() const {
  std::vector<std::string> damaged;
  const std::byte* guard = base_;
  std::string before = "the first buffer";
  for (const Buffer& buffer : buffers_) {
    if (!is_poisoned(guard, buffer.ptr)) damaged.push_back(fmt::format("between {} and {}", before, buffer.name));
    guard = buffer.ptr + buffer.size_bytes;
    before = buffer.name;
  }
  if (!is_poisoned(guard, base_ + total_bytes_)) damaged.push_back(fmt::format("after {}", before));
  return damaged;
}

const Arena::Buffer& Arena::find(std::int64_t id) const {
  const auto found = std::lower_bound(buffers_.begin(), buffers_.end(), id,
                                      [](const Buffer& buffer, std::int64_t wanted) { return buffer.id < wanted; });
  if (found == buffers_.end() || found->id != id) fail("a block lies in buffer {}, which its rank has not got", id);
  return *found;
}

}  // namespace reshard::perf
