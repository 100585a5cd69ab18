// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory page by page: physical pieces behind handles, mapped into reserved addresses.
#include "tests/doubles/cuda/driver_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

constexpr std::size_t kGranularity = 2 << 20;

struct Handle {
  std::shared_ptr<Segment> segment;
  std::int64_t num_holders = 1;
};

std::map<CUmemGenericAllocationHandle, Handle>& handles() {
  static auto& list = *new std::map<CUmemGenericAllocationHandle, Handle>;
  return list;
}

CUmemGenericAllocationHandle add_handle(std::shared_ptr<Segment> segment) {
  static CUmemGenericAllocationHandle next = 1;
  for (auto& [value, handle] : handles()) {
    if (handle.segment != segment) continue;
    ++handle.num_holders;
    return value;
  }
  handles()[next] = {std::move(segment), 1};
  return next++;
}

/// What a CUmemFabricHandle holds here.
struct FabricNote {
  std::int64_t process;
  std::int64_t descriptor;
  std::uint64_t inode;
};

CUresult granularity(std::size_t* out, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
  return driver_call("cuMemGetAllocationGranularity", [&] {
    *out = kGranularity;
    return CUDA_SUCCESS;
  });
}

CUresult create(CUmemGenericAllocationHandle* out, std::size_t size_bytes, const CUmemAllocationProp* properties,
                unsigned long long) {
  return driver_call("cuMemCreate", [&] {
    const Machine& machine = State::get().machine;
    const int device = properties->location.id;
    const auto types = static_cast<unsigned int>(properties->requestedHandleTypes);
    if (size_bytes == 0 || size_bytes % kGranularity != 0) return CUDA_ERROR_INVALID_VALUE;
    if ((types & CU_MEM_HANDLE_TYPE_FABRIC) != 0 && !machine.has_fabric) return CUDA_ERROR_NOT_SUPPORTED;
    if (used_bytes(device) + size_bytes > machine.memory_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    ++State::get().counters.allocations;
    *out = add_handle(Segment::create(device, size_bytes, types));
    return CUDA_SUCCESS;
  });
}

CUresult release(CUmemGenericAllocationHandle handle) {
  return driver_call("cuMemRelease", [&] {
    const auto found = handles().find(handle);
    if (found == handles().end()) return CUDA_ERROR_INVALID_VALUE;
    if (--found->second.num_holders == 0) handles().erase(found);
    return CUDA_SUCCESS;
  });
}

CUresult reserve_addresses(CUdeviceptr* out, std::size_t size_bytes, std::size_t, CUdeviceptr, unsigned long long) {
  return driver_call("cuMemAddressReserve", [&] {
    if (size_bytes == 0 || size_bytes % kGranularity != 0) return CUDA_ERROR_INVALID_VALUE;
    *out = reserve(size_bytes);
    return CUDA_SUCCESS;
  });
}

CUresult free_addresses(CUdeviceptr base, std::size_t size_bytes) {
  return driver_call("cuMemAddressFree", [&] {
    const auto first = allocations().lower_bound(base);
    if (first != allocations().end() && first->first < base + size_bytes) return CUDA_ERROR_INVALID_VALUE;  // mapped
    return CUDA_SUCCESS;
  });
}

CUresult map(CUdeviceptr at, std::size_t size_bytes, std::size_t offset, CUmemGenericAllocationHandle handle,
             unsigned long long) {
  return driver_call("cuMemMap", [&] {
    const auto found = handles().find(handle);
    if (found == handles().end() || offset != 0 || size_bytes > found->second.segment->size_bytes) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (find(reinterpret_cast<void*>(at)) != nullptr) return CUDA_ERROR_INVALID_VALUE;
    add_pages(at, found->second.segment, size_bytes);
    return CUDA_SUCCESS;
  });
}

CUresult unmap(CUdeviceptr at, std::size_t size_bytes) {
  return driver_call("cuMemUnmap", [&] {
    auto next = allocations().lower_bound(at);
    while (next != allocations().end() && next->first < at + size_bytes) {
      const std::uintptr_t base = next->first;
      ++next;
      remove(base);
    }
    return CUDA_SUCCESS;
  });
}

CUresult set_access(CUdeviceptr at, std::size_t size_bytes, const CUmemAccessDesc* accesses, std::size_t count) {
  return driver_call("cuMemSetAccess", [&] {
    if (!covers(reinterpret_cast<void*>(at), size_bytes)) return CUDA_ERROR_INVALID_VALUE;
    for (auto& [base, allocation] : allocations()) {
      if (base < at || base >= at + size_bytes) continue;
      for (std::size_t index = 0; index < count; ++index) {
        const int device = accesses[index].location.id;
        if (device != allocation.device && !State::get().machine.has_peer_access) return CUDA_ERROR_INVALID_DEVICE;
        allocation.access.insert(device);
      }
    }
    return CUDA_SUCCESS;
  });
}

CUresult retain(CUmemGenericAllocationHandle* out, void* ptr) {
  return driver_call("cuMemRetainAllocationHandle", [&] {
    const Allocation* found = find(ptr);
    if (found == nullptr || found->kind != Kind::kPages) return CUDA_ERROR_INVALID_VALUE;
    *out = add_handle(found->segment);
    return CUDA_SUCCESS;
  });
}

CUresult export_handle(void* out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                       unsigned long long) {
  return driver_call("cuMemExportToShareableHandle", [&] {
    const auto found = handles().find(handle);
    if (found == handles().end()) return CUDA_ERROR_INVALID_VALUE;
    const Segment& segment = *found->second.segment;
    if ((segment.handle_types & static_cast<unsigned int>(type)) == 0) return CUDA_ERROR_INVALID_VALUE;
    if (type == CU_MEM_HANDLE_TYPE_FABRIC) {
      const FabricNote note{getpid(), segment.descriptor, segment.inode()};
      static_assert(sizeof note <= sizeof(CUmemFabricHandle));
      std::memset(out, 0, sizeof(CUmemFabricHandle));
      std::memcpy(out, &note, sizeof note);
    } else {
      const int duplicate = fcntl(segment.descriptor, F_DUPFD_CLOEXEC, 0);
      std::memcpy(out, &duplicate, sizeof duplicate);
    }
    return CUDA_SUCCESS;
  });
}

CUresult import_handle(CUmemGenericAllocationHandle* out, void* given, CUmemAllocationHandleType type) {
  return driver_call("cuMemImportFromShareableHandle", [&] {
    std::shared_ptr<Segment> segment;
    if (type == CU_MEM_HANDLE_TYPE_FABRIC) {
      if (!State::get().machine.has_fabric) return CUDA_ERROR_NOT_SUPPORTED;
      FabricNote note{};
      std::memcpy(&note, given, sizeof note);
      segment = Segment::open(note.process, note.descriptor, note.inode);
    } else {
      segment = Segment::open(static_cast<int>(reinterpret_cast<std::intptr_t>(given)));
    }
    if (!segment) return CUDA_ERROR_INVALID_VALUE;
    *out = add_handle(std::move(segment));
    return CUDA_SUCCESS;
  });
}

template <typename Function>
void* address_of(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

std::int64_t num_page_handles() {
  return static_cast<std::int64_t>(handles().size());
}

void* find_page_function(const std::string& name) {
  if (name == "cuMemGetAllocationGranularity") return address_of(granularity);
  if (name == "cuMemCreate") return address_of(create);
  if (name == "cuMemRelease") return address_of(release);
  if (name == "cuMemAddressReserve") return address_of(reserve_addresses);
  if (name == "cuMemAddressFree") return address_of(free_addresses);
  if (name == "cuMemMap") return address_of(map);
  if (name == "cuMemUnmap") return address_of(unmap);
  if (name == "cuMemSetAccess") return address_of(set_access);
  if (name == "cuMemRetainAllocationHandle") return address_of(retain);
  if (name == "cuMemExportToShareableHandle") return address_of(export_handle);
  if (name == "cuMemImportFromShareableHandle") return address_of(import_handle);
  return nullptr;
}

}  // namespace cuda_double
