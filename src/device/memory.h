// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory of a device, and pinned memory of the host, owned by objects; and what fills and copies it in streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "src/base/status.h"
#include "src/device/stream.h"

namespace reshard {

/// How far device memory may be exported (peer_memory.h).
enum class Export : std::uint8_t {
  kHost,    ///< to processes of this host, through CUDA IPC: plain cudaMalloc memory
  kDomain,  ///< to the whole NVLink domain, where the driver gives fabric handles; else as kHost. In pages of 2 MiB.
};

/// Owns memory of one device; its contents are undefined at first. The destructor does not wait for work in streams
/// that uses the memory: that must be done before. Movable.
class DeviceMemory {
 public:
  DeviceMemory() = default;  ///< nothing

  /// 0 bytes give a null pointer. RESHARD_ERR_OUT_OF_MEMORY says how much is free.
  static Result<DeviceMemory> allocate(std::int32_t device, std::size_t size_bytes, Export reach = Export::kHost);

  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept { return swap(other), *this; }
  ~DeviceMemory();

  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }
  std::int32_t device() const { return device_; }

 private:
  void swap(DeviceMemory& other) noexcept {
    std::swap(data_, other.data_), std::swap(size_bytes_, other.size_bytes_), std::swap(device_, other.device_);
    std::swap(reserved_bytes_, other.reserved_bytes_);
  }
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::size_t reserved_bytes_ = 0;  // of the address range, when it was made page by page; 0: by cudaMalloc
  std::int32_t device_ = 0;
};

/// Owns host memory that devices can read and write, zeroed. Movable.
class PinnedMemory {
 public:
  PinnedMemory() = default;  ///< nothing

  /// Reachable from every device of this process. 0 bytes give a null pointer.
  static Result<PinnedMemory> allocate(std::int32_t device, std::size_t size_bytes);

  PinnedMemory(PinnedMemory&& other) noexcept { swap(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept { return swap(other), *this; }
  ~PinnedMemory();

  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  void swap(PinnedMemory& other) noexcept {
    std::swap(data_, other.data_), std::swap(size_bytes_, other.size_bytes_), std::swap(device_, other.device_);
  }
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::int32_t device_ = 0;
};

/// Queues a copy between memory of any two spaces. Where one side is plain host memory the call may block, and that
/// side must stay as it is until the stream has passed it all the same. 0 bytes are in order.
Status copy_async(void* destination, const void* source, std::size_t size_bytes, const Stream& stream);

/// Queues filling device or pinned memory with one byte value.
Status fill_async(void* destination, std::uint8_t value, std::size_t size_bytes, const Stream& stream);

/// The same, done when it returns: for uploads at bind.
Status copy_and_wait(void* destination, const void* source, std::size_t size_bytes, const Stream& stream);

}  // namespace reshard
