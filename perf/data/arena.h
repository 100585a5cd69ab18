// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// The memory that a rank's buffers are taken from.
struct MemoryChoice {
  reshard_memory_kind_t kind = RESHARD_MEMORY_HOST;
  std::int32_t device = -1;  ///< of device memory
  bool use_heap = false;     ///< of host memory: ordinary memory, in place of what peers can map
};

/// All buffers of one rank on one side, in one allocation, with a guard zone before and after each. Buffers on a device
/// have an image on the host, which is what is filled and looked at: publish() and fetch() carry it there and back. On
/// the host the image is the memory itself, and both do nothing.
class Arena {
 public:
  /// The byte that guard zones and destinations hold until something writes there.
  static constexpr std::byte kPoison{0xA5};

  /// `comm` must outlive the arena.
  Arena(reshard_comm_t comm, reshard_layout_t layout, std::int32_t rank, const MemoryChoice& memory);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Start of a buffer of the layout, in the image. Throws Error for an id that this rank has not got.
  std::byte* buffer(std::int64_t id) const { return find(id).ptr; }

  /// What reshard_binding_desc_t asks for: of one buffer, and of all.
  reshard_buffer_t binding_buffer(std::int64_t id) const;
  std::vector<reshard_buffer_t> binding_buffers() const;

  void publish() const;  ///< the image to the device
  void fetch() const;    ///< what the device holds to the image

  /// Fills everything with kPoison, guard zones and buffers, on the device too.
  void poison();

  /// Names of the buffers whose guard zone before or after them is not as poison() left it, in the image.
  std::vector<std::string> damaged_guards() const;

 private:
  struct Buffer {
    std::int64_t id = 0;
    std::string name;
    std::byte* ptr = nullptr;
    std::size_t size_bytes = 0;
  };
  const Buffer& find(std::int64_t id) const;
  reshard_buffer_t binding_buffer(const Buffer& buffer) const;
  bool is_on_device() const { return memory_.kind != RESHARD_MEMORY_HOST; }
  bool is_on_heap() const { return memory_.use_heap || is_on_device(); }

  reshard_comm_t comm_;
  MemoryChoice memory_;
  std::size_t total_bytes_ = 0;
  std::byte* base_ = nullptr;    // of the image
  std::byte* device_ = nullptr;  // of what is bound, where that is on a device
  std::vector<Buffer> buffers_;  // ascending in id and in address
};

}  // namespace reshard::perf
