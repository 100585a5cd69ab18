// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/peer_memory.h"

#include <cstring>
#include <optional>
#include <utility>

#include "src/device/cuda_call.h"
#include "src/device/descriptor_offers.h"
#include "src/device/descriptor_server.h"
#include "src/device/device.h"
#include "src/device/driver.h"
#include "src/device/memory_space.h"
#include "src/device/page_memory.h"
#include "src/device/peer_export.h"
#include "src/device/peer_key.h"

namespace reshard {
namespace {

void* offset_by(void* base, std::int64_t offset) {
  return static_cast<std::byte*>(base) + offset;
}

/// Whether kernels of `device` can follow addresses of `owner`, both of this process; makes it so where it is possible.
Result<bool> has_peer_access(std::int32_t device, std::int32_t owner) {
  if (device == owner) return true;
  int can_access = 0;
  RESHARD_TRY(cuda_status("cudaDeviceCanAccessPeer", cudaDeviceCanAccessPeer(&can_access, device, owner)));
  if (can_access == 0) return false;
  const cudaError_t code = cudaDeviceEnablePeerAccess(owner, 0);
  Status status = cuda_status("cudaDeviceEnablePeerAccess", code);
  if (is_lost(code)) return status;
  return code == cudaSuccess || code == cudaErrorPeerAccessAlreadyEnabled;
}

/// The address within this process, or null where the device cannot reach it.
Result<void*> map_own(const PeerKey& key, std::int32_t device) {
  const auto owner = static_cast<std::int32_t>(key.device);
  void* const ptr = reinterpret_cast<void*>(key.address);
  if (owner == device) return ptr;
  if (key.kind == PeerKeyKind::kProcess) return nullptr;
  RESHARD_TRY(const bool can_access, has_peer_access(device, owner));
  if (!can_access) return nullptr;
  if (key.kind == PeerKeyKind::kIpc) return ptr;
  // Access between devices does not extend to memory made page by page: there it is given range by range.
  std::int64_t size_bytes = 0;
  for (const PeerPiece& piece : key.pieces) size_bytes += piece.size_bytes;
  // A device that is refused finds another way; if CUDA is in disorder, its next call says so.
  const Status allowed = allow_access(offset_by(ptr, -key.offset), static_cast<std::size_t>(size_bytes), device);
  if (!allowed.ok()) return nullptr;
  return ptr;
}

/// One piece of a peer, held until the result is gone; nothing when it cannot be had.
Result<std::optional<PageHandle>> import_piece(const PeerKey& key, const PeerPiece& piece) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  CUmemGenericAllocationHandle handle = 0;
  CUresult code = CUDA_ERROR_INVALID_VALUE;
  if (key.kind == PeerKeyKind::kDescriptors) {
    const OwnedDescriptor descriptor = fetch_descriptor(key.server, piece.descriptor);
    if (!descriptor.is_open()) return std::optional<PageHandle>();
    // The driver takes the number itself in place of a pointer.
    void* const number = reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor.number()));
    code = driver->cuMemImportFromShareableHandle(&handle, number, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  } else if (piece.handle.size() == sizeof(CUmemFabricHandle)) {
    CUmemFabricHandle fabric{};
    std::memcpy(&fabric, piece.handle.data(), sizeof fabric);
    code = driver->cuMemImportFromShareableHandle(&handle, &fabric, CU_MEM_HANDLE_TYPE_FABRIC);
  }
  if (is_lost(code)) return driver_status("cuMemImportFromShareableHandle", code);
  if (code != CUDA_SUCCESS) return std::optional<PageHandle>();
  return std::optional<PageHandle>(PageHandle(handle));
}

}  // namespace

Result<std::unique_ptr<DevicePeerMemory>> DevicePeerMemory::create(std::int32_t device) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  return std::unique_ptr<DevicePeerMemory>(new DevicePeerMemory(device));
}

DevicePeerMemory::DevicePeerMemory(std::int32_t device) : device_(device) {}

DevicePeerMemory::~DevicePeerMemory() {
  const Result<DeviceGuard> guard = DeviceGuard::enter(device_);
  for (const auto& [handles, mapping] : mappings_) (void)close(mapping);
}

Result<std::vector<std::byte>> DevicePeerMemory::export_memory(const void* ptr, std::size_t size_bytes) {
  RESHARD_TRY(const PointerInfo info, pointer_info(ptr));
  if (size_bytes == 0 || info.space != MemorySpace::kDevice) return std::vector<std::byte>();
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(info.device));
  PeerKey key;
  key.host = this_host();
  key.process = this_process();
  key.address = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(ptr));
  key.size_bytes = static_cast<std::int64_t>(size_bytes);
  key.device = info.device;
  RESHARD_TRY(describe_export(ptr, size_bytes, &offers_, &key));
  if (key.kind == PeerKeyKind::kNone) return std::vector<std::byte>();
  return key.bytes();
}

void DevicePeerMemory::withdraw(const std::vector<std::byte>& key) {
  const std::optional<PeerKey> parsed = PeerKey::parse(key);
  if (!parsed || !offers_ || parsed->server != offers_->server_name()) return;
  for (const PeerPiece& piece : parsed->pieces) offers_->withdraw(piece.descriptor);
}

Result<void*> DevicePeerMemory::map(const std::vector<std::byte>& key) {
  if (key.empty()) return nullptr;
  const std::optional<PeerKey> parsed = PeerKey::parse(key);
  if (!parsed) return invalid_argument("these bytes are no key of device memory: was it exported by another build?");
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  if (parsed->process == this_process()) return map_own(*parsed, device_);
  const bool is_far = parsed->host != this_host() && parsed->kind != PeerKeyKind::kFabric;
  if (is_far || parsed->kind == PeerKeyKind::kProcess) return nullptr;

  std::vector<std::byte> handles = parsed->handles();
  auto found = mappings_.find(handles);
  if (found == mappings_.end()) {
    RESHARD_TRY(const Mapping mapping, open(*parsed));
    if (mapping.base == nullptr) return nullptr;
    found = mappings_.emplace(std::move(handles), mapping).first;
  }
  ++found->second.num_users;
  return offset_by(found->second.base, parsed->offset);
}

Result<DevicePeerMemory::Mapping> DevicePeerMemory::open(const PeerKey& key) {
  Mapping mapping{key.kind, nullptr, 0, 0};
  for (const PeerPiece& piece : key.pieces) mapping.size_bytes += static_cast<std::size_t>(piece.size_bytes);
  if (key.kind == PeerKeyKind::kIpc) {
    cudaIpcMemHandle_t handle{};
    if (key.pieces.size() != 1 || key.pieces[0].handle.size() != sizeof handle) {
      return invalid_argument("a key of CUDA IPC without its handle");
    }
    std::memcpy(&handle, key.pieces[0].handle.data(), sizeof handle);
    const cudaError_t code = cudaIpcOpenMemHandle(&mapping.base, handle, cudaIpcMemLazyEnablePeerAccess);
    Status status = cuda_status("cudaIpcOpenMemHandle", code);
    if (is_lost(code)) return status;
    if (!status.ok()) mapping.base = nullptr;
    return mapping;
  }
  std::vector<PagePiece> pieces;
  for (const PeerPiece& piece : key.pieces) {
    RESHARD_TRY(std::optional<PageHandle> handle, import_piece(key, piece));
    if (!handle) return mapping;
    pieces.push_back({std::move(*handle), static_cast<std::size_t>(piece.size_bytes)});
  }
  // What was imported may still be out of this device's reach.
  Result<void*> base = map_pages(pieces, device_);
  if (base.ok()) mapping.base = *base;
  return mapping;
}

Status DevicePeerMemory::close(const Mapping& mapping) const {
  if (mapping.kind == PeerKeyKind::kIpc)
    return cuda_status("cudaIpcCloseMemHandle", cudaIpcCloseMemHandle(mapping.base));
  return unmap_pages(mapping.base, mapping.size_bytes);
}

Status DevicePeerMemory::unmap(const std::vector<std::byte>& key, void* ptr) {
  if (ptr == nullptr) return {};
  const std::optional<PeerKey> parsed = PeerKey::parse(key);
  if (!parsed) return invalid_argument("these bytes are no key of device memory");
  if (parsed->process == this_process()) return {};
  const auto found = mappings_.find(parsed->handles());
  if (found == mappings_.end() || offset_by(found->second.base, parsed->offset) != ptr) {
    return invalid_argument("this key is not mapped at that address");
  }
  if (--found->second.num_users > 0) return {};
  const Mapping mapping = found->second;
  mappings_.erase(found);
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return close(mapping);
}

}  // namespace reshard
