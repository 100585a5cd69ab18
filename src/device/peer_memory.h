// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Device memory of one process in the address space of another: exported as a key of some hundred bytes that travels
// out of band, and mapped from it.
//
// Which way depends on how the memory was made, so a key says its kind:
//   same process   the address itself, once the two devices have access to each other
//   CUDA IPC       cudaMalloc memory, between processes of one host; the key holds the handle of the whole allocation
//   and
//                  the offset in it
//   descriptors    memory made page by page (VMM), as torch's expandable segments, between processes of one host: one
//   file
//                  descriptor for each piece, handed over a local socket
//   fabric         VMM memory that was made for it, between all hosts of an NVLink domain
//
// That memory cannot be mapped is no error: there is another way for its bytes. The key is then empty, or map() gives
// null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "src/base/status.h"

namespace reshard {

class DescriptorServer;

enum class PeerKeyKind : std::uint8_t { kNone = 0, kIpc = 1, kDescriptors = 2, kFabric = 3 };

/// "none", "ipc", "descriptors" or "fabric".
const char* peer_key_kind_name(PeerKeyKind kind);

/// What a key says of itself; kNone for an empty one and for bytes that are no key.
PeerKeyKind peer_key_kind(std::span<const std::byte> key);

/// Exports memory of one device and maps that of peers for it. One thread at a time. Everything mapped is unmapped by
/// the destructor; keys can be mapped as long as the object that exported them lives.
class DevicePeerMemory {
 public:
  static Result<std::unique_ptr<DevicePeerMemory>> create(std::int32_t device);
  ~DevicePeerMemory();
  DevicePeerMemory(const DevicePeerMemory&) = delete;
  DevicePeerMemory& operator=(const DevicePeerMemory&) = delete;

  std::int32_t device() const { return device_; }

  /// The key of [ptr, ptr + size_bytes), which may lie anywhere inside allocations of any device; empty when it cannot
  /// be mapped by others (host memory, memory of a pool). An error only when CUDA is in disorder.
  Result<std::vector<std::byte>> export_memory(const void* ptr, std::size_t size_bytes);

  /// The address at which kernels of device() see the first byte of the exported range; null when it cannot be mapped
  /// here (another host, no access between the devices, a peer that is gone). A key that is not one of these is
  /// RESHARD_ERR_INVALID_ARGUMENT. What is mapped twice is shared, and unmapped twice.
  Result<void*> map(std::span<const std::byte> key);

  /// Gives back what map() gave. No work in a stream may use it any more.
  Status unmap(std::span<const std::byte> key, void* ptr);

 private:
  explicit DevicePeerMemory(std::int32_t device) : device_(device) {}

  struct Mapping;
  std::int32_t device_;
  std::map<std::vector<std::byte>, std::unique_ptr<Mapping>> mappings_;  // by what was mapped, offset left out
  std::unique_ptr<DescriptorServer> server_;                             // from the first key of kind descriptors on
};

}  // namespace reshard
