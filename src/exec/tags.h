// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

namespace reshard {

/// The two low bits of a tag say what a message is. Messages of one kind between two ranks keep the plan's order;
/// relayed windows and those from their first rank have lanes of their own, and so overtake each other.
enum class TagKind : std::uint64_t { kFirst = 0, kReady = 1, kDone = 2, kRelayed = 3 };

inline std::uint64_t tag_of(std::uint64_t run_tag, TagKind kind) {
  return run_tag << 2 | static_cast<std::uint64_t>(kind);
}

}  // namespace reshard
