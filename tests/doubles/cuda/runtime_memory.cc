// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory of devices and of the host, and what other processes map of it.
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::Allocation;
using cuda_double::Kind;
using cuda_double::runtime_call;
using cuda_double::Segment;
using cuda_double::State;

namespace {

cudaError_t allocate(void** out, std::size_t size_bytes, Kind kind) {
  *out = nullptr;
  if (size_bytes == 0) return cudaSuccess;
  const int device = cuda_double::ensured_device();
  const std::uint64_t all_bytes = State::get().machine.memory_bytes;
  const bool is_host = kind == Kind::kPinned || kind == Kind::kManaged;
  if (!is_host && cuda_double::used_bytes(device) + size_bytes > all_bytes) return cudaErrorMemoryAllocation;
  ++State::get().counters.allocations;
  Allocation& made = is_host ? cuda_double::add_host_memory(kind, device, size_bytes)
                             : cuda_double::add_device_memory(kind, device, size_bytes, nullptr);
  *out = reinterpret_cast<void*>(made.base);
  return cudaSuccess;
}

/// Work that still uses the memory is not waited for: it finds the addresses closed, as it may on a device.
cudaError_t release(void* ptr, std::initializer_list<Kind> kinds) {
  if (ptr == nullptr) return cudaSuccess;
  const Allocation* found = cuda_double::find(ptr);
  if (found == nullptr && cuda_double::was_freed(ptr)) cuda_double::defect(fmt::format("{} is freed twice", ptr));
  const bool is_first_byte = found != nullptr && found->base == reinterpret_cast<std::uintptr_t>(ptr);
  if (!is_first_byte || std::find(kinds.begin(), kinds.end(), found->kind) == kinds.end()) return cudaErrorInvalidValue;
  if (found->kind == Kind::kMalloc && found->segment->is_used_by_others()) {
    ++State::get().num_freed_while_mapped;
    if (State::get().is_strict)
      cuda_double::defect(fmt::format("{} is freed while another process has it mapped", ptr));
  }
  cuda_double::remove(found->base);
  return cudaSuccess;
}

/// What a cudaIpcMemHandle_t holds here.
struct IpcHandle {
  std::int64_t process;
  std::int64_t descriptor;
  std::uint64_t inode;
  std::uint64_t size_bytes;
};
static_assert(sizeof(IpcHandle) <= sizeof(cudaIpcMemHandle_t));

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** out, std::size_t size_bytes) {
  return runtime_call("cudaMalloc", [&] { return allocate(out, size_bytes, Kind::kMalloc); });
}

cudaError_t cudaFree(void* ptr) {
  return runtime_call("cudaFree", [&] { return release(ptr, {Kind::kMalloc, Kind::kManaged}); });
}

cudaError_t cudaMallocManaged(void** out, std::size_t size_bytes, unsigned int) {
  return runtime_call("cudaMallocManaged", [&] { return allocate(out, size_bytes, Kind::kManaged); });
}

cudaError_t cudaMallocAsync(void** out, std::size_t size_bytes, cudaStream_t) {
  return runtime_call("cudaMallocAsync", [&] { return allocate(out, size_bytes, Kind::kPool); });
}

cudaError_t cudaFreeAsync(void* ptr, cudaStream_t handle) {
  return runtime_call("cudaFreeAsync", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;  // nodes of memory are not played
    cuda_double::enqueue(stream, {"cudaFreeAsync", [ptr] { return release(ptr, {Kind::kPool}) == cudaSuccess; }, {}});
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** out, std::size_t size_bytes, unsigned int) {
  return runtime_call("cudaHostAlloc", [&] { return allocate(out, size_bytes, Kind::kPinned); });
}

cudaError_t cudaMallocHost(void** out, std::size_t size_bytes) {
  return runtime_call("cudaMallocHost", [&] { return allocate(out, size_bytes, Kind::kPinned); });
}

cudaError_t cudaFreeHost(void* ptr) {
  return runtime_call("cudaFreeHost", [&] { return release(ptr, {Kind::kPinned}); });
}

cudaError_t cudaHostRegister(void* ptr, std::size_t size_bytes, unsigned int) {
  return runtime_call("cudaHostRegister", [&] {
    cuda_double::add_registered(ptr, size_bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* ptr) {
  return runtime_call("cudaHostUnregister", [&] { return release(ptr, {Kind::kPinned}); });
}

cudaError_t cudaHostGetDevicePointer(void** out, void* ptr, unsigned int) {
  return runtime_call("cudaHostGetDevicePointer", [&] {
    const Allocation* found = cuda_double::find(ptr);
    if (found == nullptr || found->kind != Kind::kPinned) return cudaErrorInvalidValue;
    *out = ptr;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* ptr) {
  return runtime_call("cudaPointerGetAttributes", [&] {
    (void)cuda_double::ensured_device();
    *attributes = {};
    attributes->device = -2;
    const Allocation* found = cuda_double::find(ptr);
    if (found == nullptr) {
      attributes->hostPointer = const_cast<void*>(ptr);
      return cudaSuccess;
    }
    attributes->type = found->kind == Kind::kPinned    ? cudaMemoryTypeHost
                       : found->kind == Kind::kManaged ? cudaMemoryTypeManaged
                                                       : cudaMemoryTypeDevice;
    attributes->device = found->device;
    attributes->devicePointer = const_cast<void*>(ptr);
    if (found->kind == Kind::kPinned || found->kind == Kind::kManaged) attributes->hostPointer = const_cast<void*>(ptr);
    return cudaSuccess;
  });
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* out, void* ptr) {
  return runtime_call("cudaIpcGetMemHandle", [&] {
    const Allocation* found = cuda_double::find(ptr);
    const bool is_first_byte = found != nullptr && found->base == reinterpret_cast<std::uintptr_t>(ptr);
    if (!is_first_byte || found->kind != Kind::kMalloc) return cudaErrorInvalidValue;
    const IpcHandle handle{getpid(), found->segment->descriptor, found->segment->inode(), found->size_bytes};
    *out = {};
    std::memcpy(out, &handle, sizeof handle);
    return cudaSuccess;
  });
}

cudaError_t cudaIpcOpenMemHandle(void** out, cudaIpcMemHandle_t given, unsigned int flags) {
  return runtime_call("cudaIpcOpenMemHandle", [&] {
    *out = reinterpret_cast<void*>(1);  // what fails leaves anything
    if (flags != cudaIpcMemLazyEnablePeerAccess) return cudaErrorInvalidValue;
    IpcHandle handle{};
    std::memcpy(&handle, &given, sizeof handle);
    if (handle.process == getpid()) return cudaErrorDeviceUninitialized;  // not in the process that exported it
    const int device = cuda_double::ensured_device();
    const std::string text(given.reserved, sizeof given.reserved);
    for (auto& [base, allocation] : cuda_double::allocations()) {
      if (allocation.kind != Kind::kIpc || allocation.ipc_handle != text || allocation.access.count(device) == 0)
        continue;
      ++allocation.num_users;
      *out = reinterpret_cast<void*>(base);
      return cudaSuccess;
    }
    std::shared_ptr<Segment> segment = Segment::open(handle.process, handle.descriptor, handle.inode);
    if (!segment) return cudaErrorInvalidResourceHandle;
    if (segment->device != device && !State::get().machine.has_peer_access) return cudaErrorPeerAccessUnsupported;
    Allocation& made = cuda_double::add_device_memory(Kind::kIpc, device, handle.size_bytes, std::move(segment));
    made.ipc_handle = text;
    *out = reinterpret_cast<void*>(made.base);
    return cudaSuccess;
  });
}

cudaError_t cudaIpcCloseMemHandle(void* ptr) {
  return runtime_call("cudaIpcCloseMemHandle", [&] {
    Allocation* found = cuda_double::find(ptr);
    if (found != nullptr && found->kind == Kind::kIpc && --found->num_users > 0) return cudaSuccess;
    return release(ptr, {Kind::kIpc});
  });
}

}  // extern "C"
