// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "tests/doubles/cuda/faults.h"
#include "tests/doubles/cuda/state.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace cuda_double {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr int kPattern = 0xA7;           // what new memory holds
constexpr unsigned char kBehind = 0xB9;  // what lies behind an allocation, to the end of its page

/// Ranges that were ours, from the first byte to the one behind the last.
std::map<std::uintptr_t, std::uintptr_t>& freed() {
  static auto& list = *new std::map<std::uintptr_t, std::uintptr_t>;
  return list;
}

Allocation* first_open = nullptr;  // of the list of those that are open

std::size_t rounded(std::size_t size_bytes) {
  return (size_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}
void* pointer(std::uintptr_t address) {
  return reinterpret_cast<void*>(address);
}

void protect(Allocation* allocation, int protection) {
  if (mprotect(pointer(allocation->base), allocation->mapped_bytes, protection) != 0) {
    defect(fmt::format("mprotect of {} bytes: {}", allocation->mapped_bytes, std::strerror(errno)));
  }
}

void open_allocation(Allocation* allocation) {
  if (allocation->kind == Kind::kPinned || allocation->kind == Kind::kManaged || allocation->is_open) return;
  protect(allocation, PROT_READ | PROT_WRITE);
  allocation->is_open = true;
  allocation->next_open = std::exchange(first_open, allocation);
}

/// Closes the open ones for which `is_meant` holds.
template <typename IsMeant>
void close_if(IsMeant is_meant) {
  Allocation** link = &first_open;
  while (Allocation* const allocation = *link) {
    if (!is_meant(*allocation)) {
      link = &allocation->next_open;
      continue;
    }
    protect(allocation, PROT_NONE);
    allocation->is_open = false;
    *link = allocation->next_open;
  }
}

/// Fills new memory and what lies behind it. For memory whose size is of whole pages the closed page behind it serves.
void fill_new(const Allocation& allocation) {
  std::memset(pointer(allocation.base), kPattern, allocation.size_bytes);
  void* const behind = pointer(allocation.base + allocation.size_bytes);
  const std::size_t behind_bytes = allocation.mapped_bytes - allocation.size_bytes;
  std::memset(behind, kBehind, behind_bytes);
  ASAN_POISON_MEMORY_REGION(behind, behind_bytes);
}

void check_behind(const Allocation& allocation) {
  const auto* first = static_cast<const unsigned char*>(pointer(allocation.base));
  ASAN_UNPOISON_MEMORY_REGION(first, allocation.mapped_bytes);
  for (std::size_t at = allocation.size_bytes; at < allocation.mapped_bytes; ++at) {
    if (first[at] != kBehind) {
      defect(fmt::format("something wrote byte {} of an allocation of {} bytes at {}", at, allocation.size_bytes,
                         pointer(allocation.base)));
    }
  }
}

bool may_touch(int device, const Allocation& allocation) {
  if (allocation.kind == Kind::kPinned || allocation.kind == Kind::kManaged) return true;
  if (allocation.access.count(device) != 0) return true;
  const bool follows_peers = allocation.kind == Kind::kMalloc;
  return follows_peers &&
         State::get().has_access.at(static_cast<std::size_t>(device)).at(static_cast<std::size_t>(allocation.device));
}

}  // namespace

std::map<std::uintptr_t, Allocation>& allocations() {
  static auto& list = *new std::map<std::uintptr_t, Allocation>;
  return list;
}

Allocation* find(const void* ptr) {
  const auto address = reinterpret_cast<std::uintptr_t>(ptr);
  auto next = allocations().upper_bound(address);
  if (next == allocations().begin()) return nullptr;
  Allocation& before = std::prev(next)->second;
  return before.contains(address) ? &before : nullptr;
}

bool covers(const void* ptr, std::size_t size_bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(ptr);
  for (std::uintptr_t next = first; next < first + size_bytes;) {
    const Allocation* allocation = find(pointer(next));
    if (allocation == nullptr) return false;
    next = allocation->base + allocation->size_bytes;
  }
  return true;
}

bool was_freed(const void* ptr) {
  const auto address = reinterpret_cast<std::uintptr_t>(ptr);
  const auto next = freed().upper_bound(address);
  return next != freed().begin() && address < std::prev(next)->second;
}

std::uintptr_t reserve(std::size_t mapped_bytes) {
  constexpr std::size_t kAlignment = 2 << 20;  // as the driver's pages; the rest stays closed between neighbours
  void* const range =
      mmap(nullptr, mapped_bytes + 2 * kAlignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) defect(fmt::format("no addresses for {} bytes: {}", mapped_bytes, std::strerror(errno)));
  return (reinterpret_cast<std::uintptr_t>(range) + kAlignment) / kAlignment * kAlignment;
}

Allocation& add_pages(std::uintptr_t base, std::shared_ptr<Segment> segment, std::size_t size_bytes) {
  Allocation allocation;
  allocation.kind = Kind::kPages;
  allocation.base = base;
  allocation.size_bytes = size_bytes;
  allocation.mapped_bytes = rounded(size_bytes);
  allocation.device = segment->device;
  void* const mapped =
      mmap(pointer(base), allocation.mapped_bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, segment->descriptor, 0);
  if (mapped == MAP_FAILED) defect(fmt::format("mmap of {} bytes: {}", size_bytes, std::strerror(errno)));
  allocation.segment = std::move(segment);
  return allocations().insert_or_assign(base, std::move(allocation)).first->second;
}

Allocation& add_device_memory(Kind kind, int device, std::size_t size_bytes, std::shared_ptr<Segment> segment) {
  const bool is_new = segment == nullptr;
  if (is_new) segment = Segment::create(device, rounded(size_bytes), 0);
  Allocation& allocation = add_pages(reserve(rounded(size_bytes)), std::move(segment), size_bytes);
  allocation.kind = kind;
  allocation.device = device;
  allocation.access = {device};
  if (is_new) {
    protect(&allocation, PROT_READ | PROT_WRITE);
    fill_new(allocation);
    protect(&allocation, PROT_NONE);
  }
  return allocation;
}

Allocation& add_host_memory(Kind kind, int device, std::size_t size_bytes) {
  Allocation allocation;
  allocation.kind = kind;
  allocation.device = device;
  allocation.size_bytes = size_bytes;
  allocation.mapped_bytes = rounded(size_bytes);
  allocation.base = reserve(allocation.mapped_bytes);
  protect(&allocation, PROT_READ | PROT_WRITE);
  fill_new(allocation);
  const std::uintptr_t base = allocation.base;
  return allocations().insert_or_assign(base, std::move(allocation)).first->second;
}

void add_registered(void* ptr, std::size_t size_bytes) {
  Allocation allocation;
  allocation.kind = Kind::kPinned;
  allocation.is_registered = true;
  allocation.base = reinterpret_cast<std::uintptr_t>(ptr);
  allocation.size_bytes = allocation.mapped_bytes = size_bytes;
  const std::uintptr_t base = allocation.base;
  allocations().insert_or_assign(base, std::move(allocation));
}

void remove(std::uintptr_t base) {
  Allocation& allocation = allocations().at(base);
  if (!allocation.is_registered) {
    if (allocation.kind == Kind::kMalloc || allocation.kind == Kind::kPool || allocation.kind == Kind::kPinned) {
      open_allocation(&allocation);
      check_behind(allocation);
    }
    close_if([&](const Allocation& other) { return &other == &allocation; });
    (void)mmap(pointer(base), allocation.mapped_bytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    freed()[base] = base + allocation.mapped_bytes;
  }
  allocations().erase(base);
}

std::uint64_t used_bytes(int device) {
  std::uint64_t sum = 0;
  for (const auto& [base, allocation] : allocations()) {
    const bool is_here = allocation.kind == Kind::kMalloc || allocation.kind == Kind::kPool ||
                         allocation.kind == Kind::kPages || allocation.kind == Kind::kManaged;
    if (is_here && allocation.device == device) sum += allocation.size_bytes;
  }
  return sum;
}

bool open_for(int device, Allocation* allocation) {
  if (!may_touch(device, *allocation)) return false;
  open_allocation(allocation);
  return true;
}

void close_for_others(int device) {
  close_if([&](const Allocation& allocation) { return !may_touch(device, allocation); });
}

void open_range(const void* ptr, std::size_t size_bytes, const char* what) {
  const auto first = reinterpret_cast<std::uintptr_t>(ptr);
  Allocation* allocation = find(ptr);
  if (allocation == nullptr) {
    if (was_freed(ptr)) defect(fmt::format("{} works on {}, which was freed", what, ptr));
    return;  // plain memory of the host
  }
  for (std::uintptr_t next = first; next < first + size_bytes; next = allocation->base + allocation->size_bytes) {
    allocation = find(pointer(next));
    if (allocation == nullptr) defect(fmt::format("{} works on {} bytes at {}, beyond the end", what, size_bytes, ptr));
    open_allocation(allocation);
  }
}

void close_all() {
  set_kernel_device(-1);
  close_if([](const Allocation&) { return true; });
}

bool can_access(int device, const void* ptr, std::size_t size_bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(ptr);
  for (std::uintptr_t next = first; next < first + size_bytes;) {
    const Allocation* allocation = find(pointer(next));
    if (allocation == nullptr || !may_touch(device, *allocation)) return false;
    next = allocation->base + allocation->size_bytes;
  }
  return true;
}

}  // namespace cuda_double
