// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A guard in front of parsers that recurse. It counts brackets and knows nothing of quotes, so that brackets in strings
// count, too, in either direction.
#pragma once

#include <string_view>

namespace reshard {

/// Whether brackets open more than `most` deep, strings included: parsers of JSON and YAML take stack for each level,
/// and some have no limit of their own.
inline bool nests_deeper_than(int most, std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (depth > most) return true;
  }
  return false;
}

}  // namespace reshard
