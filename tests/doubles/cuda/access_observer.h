// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

namespace reshard::testing {

/// Sees every access to memory that a kernel makes while it runs on the processor, in the order of the fibers: all of
/// one thread's up to a barrier, then the next thread's.
class AccessObserver {
 public:
  virtual ~AccessObserver() = default;

  struct Access {
    const void* site;  ///< of the code; lanes of a warp that are at the same site at the same time access together
    std::uint64_t address;
    std::uint32_t num_bytes;
    std::uint32_t thread;
    bool is_store;
    bool is_active;  ///< false: the lane takes part, but is predicated off
  };
  virtual void begin_block(std::uint32_t block) = 0;
  virtual void global(const Access& access) = 0;
  virtual void shared(const Access& access) = 0;
  virtual void barrier() = 0;  ///< all threads of the block have arrived at it
};

/// The observer of kernels that this thread runs; null: none. The caller keeps it.
void observe_accesses(AccessObserver* observer);
AccessObserver* access_observer();

}  // namespace reshard::testing
