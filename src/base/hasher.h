// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The hash by which ranks prove that they hold the same plan. Ranks are not enemies here, so it is fast and not
// cryptographic; where others choose the bytes, keyed_hash() of src/transport is the one.
#pragma once

#define XXH_STATIC_LINKING_ONLY  // the state is a member, not an allocation
#include <xxhash.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace reshard {

/// Hashes values in the order they are fed; equal sequences hash equally on every machine of the same byte order.
class Hasher {
 public:
  Hasher() { XXH3_64bits_reset(&state_); }

  /// Numbers are passed on in batches: a call of the hash costs more than a number's part in it.
  void add(std::int64_t value) {
    batch_[num_batched_++] = value;
    if (num_batched_ == batch_.size()) pass_on();
  }
  // The length goes in first: else "ab" and "c" would hash as "a" and "bc" do.
  void add(const std::string& text) {
    add(static_cast<std::int64_t>(text.size()));
    pass_on();
    XXH3_64bits_update(&state_, text.data(), text.size());
  }
  /// T must have no padding bytes, which would hash as garbage.
  template <typename T>
  void add_all(const std::vector<T>& values) {
    static_assert(std::has_unique_object_representations_v<T>);
    add(static_cast<std::int64_t>(values.size()));
    pass_on();
    XXH3_64bits_update(&state_, values.data(), values.size() * sizeof(T));
  }
  std::uint64_t digest() {
    pass_on();
    return XXH3_64bits_digest(&state_);
  }

 private:
  void pass_on() {
    XXH3_64bits_update(&state_, batch_.data(), num_batched_ * sizeof(std::int64_t));
    num_batched_ = 0;
  }

  XXH3_state_t state_;
  std::array<std::int64_t, 128> batch_;
  std::size_t num_batched_ = 0;
};

}  // namespace reshard
