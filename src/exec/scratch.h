// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

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

  const std::vector<BoundBuffer>& src() const { return src_; }
  const std::vector<BoundBuffer>& dst() const { return dst_; }
  std::int64_t size_bytes() const { return size_bytes_; }

 private:
  Status allocate_side(const ModelLayout& layout, std::int64_t first, std::int32_t rank,
                       std::vector<BoundBuffer>* buffers);

  PeerMemory* memory_ = nullptr;
  std::vector<void*> blocks_;  // one for each side that has any
  std::vector<BoundBuffer> src_;
  std::vector<BoundBuffer> dst_;
  std::int64_t size_bytes_ = 0;
};

}  // namespace reshard
