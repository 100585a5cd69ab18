// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Device memory of one process in the address space of another: exported as a key of some hundred bytes that travels
// out of band, and mapped from it.
//
// Which way depends on how the memory was made, so a key says its kind:
//   process      any, within one process: the address itself, once the two devices have access to each other. A key of
//                this kind can be mapped in no other way (memory of a pool).
//   ipc          cudaMalloc memory, between processes of one host: CUDA's handle of the whole allocation, and the
//                offset in it
//   descriptors  memory made page by page (VMM), as torch's expandable segments, between processes of one host: a file
//                descriptor for each piece, handed over a local socket
//   fabric       VMM memory that was made for it, between all hosts of an NVLink domain
//
// That memory cannot be mapped is no error: there is another way for its bytes. The key is then empty, or map() gives
// null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "src/base/status.h"

namespace reshard {

class DescriptorOffers;
struct PeerKey;

enum class PeerKeyKind : std::uint8_t { kNone = 0, kProcess = 1, kIpc = 2, kDescriptors = 3, kFabric = 4 };

/// "none", "process", "ipc", "descriptors" or "fabric".
const char* peer_key_kind_name(PeerKeyKind kind);

/// What a key says of itself; kNone for an empty one and for bytes that are no key.
PeerKeyKind peer_key_kind(const std::vector<std::byte>& key);

/// Exports memory of one device and maps that of peers for it. One thread at a time. Everything mapped is unmapped by
/// the destructor; keys can be mapped until they are withdrawn or the object that exported them is gone.
class DevicePeerMemory {
 public:
  static Result<std::unique_ptr<DevicePeerMemory>> create(std::int32_t device);
  ~DevicePeerMemory();
  DevicePeerMemory(const DevicePeerMemory&) = delete;
  DevicePeerMemory& operator=(const DevicePeerMemory&) = delete;

  std::int32_t device() const { return device_; }

  /// The key of [ptr, ptr + size_bytes), which may lie anywhere inside an allocation of any device; empty when nobody
  /// can map it (host memory, a range over two allocations). An error only when CUDA is in disorder.
  Result<std::vector<std::byte>> export_memory(const void* ptr, std::size_t size_bytes);

  /// Ends what export_memory() began, when all who need it have mapped it: what is mapped stays, but a key of kind
  /// descriptors can be mapped by nobody any more. Until then such a key keeps its memory from being freed.
  void withdraw(const std::vector<std::byte>& key);

  /// The address at which kernels of device() see the first byte of the exported range; null when it cannot be mapped
  /// here (another host, no access between the devices, a peer that is gone). A key that is not one of these is
  /// RESHARD_ERR_INVALID_ARGUMENT. What is mapped twice is shared, and unmapped twice.
  Result<void*> map(const std::vector<std::byte>& key);

  /// Gives back what map() gave. No work in a stream may use it any more.
  Status unmap(const std::vector<std::byte>& key, void* ptr);

 private:
  explicit DevicePeerMemory(std::int32_t device);

  struct Mapping {
    PeerKeyKind kind;
    void* base;
    std::size_t size_bytes;
    std::int64_t num_users;
  };
  Result<Mapping> open(const PeerKey& key);
  Status close(const Mapping& mapping) const;

  std::int32_t device_;
  std::map<std::vector<std::byte>, Mapping> mappings_;  // by PeerKey::handles()
  std::unique_ptr<DescriptorOffers> offers_;            // from the first key of kind descriptors on
};

}  // namespace reshard
