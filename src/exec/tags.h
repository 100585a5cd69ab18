// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

namespace reshard {

// A tag has 44 bits: the binding in the upper 28, the run in the next 14, what the message is in the lower two.
//
// Bindings and runs are counted in 64 bits and wrap round in their fields. A binding is not given a number whose bits
// those of a living one are (BindingNumbers), and what a failed run leaves behind is discarded long before 2^14 more.

/// Windows of one kind between two ranks keep the plan's order; relayed windows and those from their first rank have
/// lanes of their own, and so overtake each other. Keys are exchanged while a binding is made.
enum class TagKind : std::uint64_t { kFirst = 0, kRelayed = 1, kControl = 2, kKeys = 3 };

inline constexpr int kRunBits = 14;
inline constexpr int kBindingBits = 28;

/// Of control messages and keys: run 0.
inline std::uint64_t tag_of(std::int64_t binding, std::int64_t run, TagKind kind) {
  const auto low = [](std::int64_t value, int bits) {
    return static_cast<std::uint64_t>(value) & ((std::uint64_t{1} << bits) - 1);
  };
  return (low(binding, kBindingBits) << kRunBits | low(run, kRunBits)) << 2 | static_cast<std::uint64_t>(kind);
}

}  // namespace reshard
