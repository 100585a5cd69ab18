// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/device/memory.h"
#include "src/exec/keys.h"

namespace reshard {

/// The buffers of a rank that the plan adds to the caller's layouts (Plan::num_given_src_buffers()): computed scales,
/// and places where elements land before they are converted. Peers may map them as the caller's own.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// Allocates them. `memory`, which must outlive this object, is of the kind of the caller's buffers.
  /// RESHARD_ERR_OUT_OF_MEMORY.
  Status allocate(const Plan& plan, std::int32_t rank, PeerMemory* memory);
  void release();

  /// Instead of release(), where a device may still read and write it: it stays for good.
  void abandon();

  const std::vector<BoundBuffer>& src() const { return src_; }
  const std::vector<BoundBuffer>& dst() const { return dst_; }
  std::int64_t size_bytes() const { return size_bytes_; }

 private:
  Result<void*> allocate_block(std::size_t size_bytes);
  Status allocate_side(const ModelLayout& layout, std::int64_t first, std::int32_t rank,
                       std::vector<BoundBuffer>* buffers);

  PeerMemory* memory_ = nullptr;
  std::vector<void*> blocks_;                // of the host, one for each side that has any
  std::vector<DeviceMemory> device_blocks_;  // the same of a device
  std::vector<BoundBuffer> src_;
  std::vector<BoundBuffer> dst_;
  std::int64_t size_bytes_ = 0;
};

}  // namespace reshard
