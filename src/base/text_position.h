// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace reshard {

/// A place in a text as editors show it: both count from 1, the column in bytes.
struct TextPosition {
  std::size_t line = 1;
  std::size_t column = 1;
};

/// Where the byte `offset` stands; an offset behind the last byte stands one column behind it.
inline TextPosition text_position(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_begin = before.rfind('\n') + 1;  // 0 in the first line, as npos + 1 is
  return {1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')), before.size() - line_begin + 1};
}

}  // namespace reshard
