// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <vector>

namespace reshard::testing {

/// The bulk copies of a thread of the processor. Each is done as late as it may be, when it is waited for, so that a
/// wait that is missing shows: what was not waited for is not there, and what was overwritten too early is wrong.
class BulkCopies {
 public:
  void init(std::uint64_t barrier) { barriers_[barrier] = {}; }

  void load(std::uint64_t to, std::uint64_t from, std::uint32_t num_bytes, std::uint64_t barrier) {
    check((to | from | num_bytes) % 16 == 0, "a bulk load that is not aligned to 16 bytes");
    check(!barriers_.at(barrier).is_pending, "a second bulk load before the first of its barrier was waited for");
    barriers_.at(barrier).copy = {to, from, num_bytes};
    barriers_.at(barrier).is_pending = true;
  }

  /// Until the phase of this parity is over.
  void wait(std::uint64_t barrier, std::uint32_t parity) {
    Barrier& waited = barriers_.at(barrier);
    if (waited.num_phases % 2 != parity) return;  // it is over already
    check(waited.is_pending, "a wait for a bulk load that nobody has begun");
    waited.copy.run();
    waited.is_pending = false;
    ++waited.num_phases;
  }

  void store(std::uint64_t to, std::uint64_t from, std::uint32_t num_bytes) {
    check((to | from | num_bytes) % 16 == 0, "a bulk store that is not aligned to 16 bytes");
    stores_.push_back({to, from, num_bytes});
  }

  /// All but the newest `num_left`.
  void finish_stores(std::size_t num_left) {
    while (stores_.size() > num_left) {
      stores_.front().run();
      stores_.erase(stores_.begin());
    }
  }

 private:
  struct Copy {
    std::uint64_t to;
    std::uint64_t from;
    std::uint32_t num_bytes;

    void run() const { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), num_bytes); }
  };
  struct Barrier {
    Copy copy = {};
    bool is_pending = false;
    std::uint32_t num_phases = 0;  // that are over
  };
  static void check(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(what);
  }

  std::map<std::uint64_t, Barrier> barriers_;
  std::vector<Copy> stores_;
};

inline BulkCopies& bulk_copies() {
  static thread_local BulkCopies copies;
  return copies;
}

}  // namespace reshard::testing
