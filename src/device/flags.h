// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Words in device memory by which kernels of one device tell those of another how far they are. Each holds the number
// of the run (epoch) that it was last raised for, so that nobody has to lower it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/status.h"
#include "src/device/memory.h"
#include "src/device/stream.h"

namespace reshard {

/// A row of flags of one device, to be exported as any device memory. All are 0 at first.
class ReadinessFlags {
 public:
  using Word = std::uint64_t;
  // Flags of two writers never share a line of the second-level cache.
  static constexpr std::size_t kStrideBytes = 128;

  /// Zeroed when it returns.
  static Result<ReadinessFlags> create(std::int32_t device, std::int64_t num_flags);

  void* base() const { return memory_.data(); }
  std::size_t size_bytes() const { return memory_.size_bytes(); }
  std::int64_t num_flags() const { return static_cast<std::int64_t>(size_bytes() / kStrideBytes); }

  /// The device address of flag `index` in a row that begins at `base`, own or mapped.
  static void* address(void* base, std::int64_t index) {
    return static_cast<std::byte*>(base) + static_cast<std::size_t>(index) * kStrideBytes;
  }

 private:
  explicit ReadinessFlags(DeviceMemory memory) : memory_(std::move(memory)) {}
  DeviceMemory memory_;
};

}  // namespace reshard
