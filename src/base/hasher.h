// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#define XXH_STATIC_LINKING_ONLY  // the state is a member, not an allocation
#include <xxhash.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace reshard {

/// Hashes values in the order they are fed; equal sequences hash equally on every machine of the same byte order.
class Hasher {
 public:
  Hasher() { XXH3_64bits_reset(&state_); }

  void add(std::int64_t value) { XXH3_64bits_update(&state_, &value, sizeof(value)); }
  void add(const std::string& text) {
    add(static_cast<std::int64_t>(text.size()));
    XXH3_64bits_update(&state_, text.data(), text.size());
  }
  /// T must have no padding bytes, which would hash as garbage.
  template <typename T>
  void add_all(const std::vector<T>& values) {
    static_assert(std::has_unique_object_representations_v<T>);
    add(static_cast<std::int64_t>(values.size()));
    XXH3_64bits_update(&state_, values.data(), values.size() * sizeof(T));
  }
  std::uint64_t digest() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

}  // namespace reshard
