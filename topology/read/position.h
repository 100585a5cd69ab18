// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace reshard {

/// "topo.xml:12:5": the line and the column, in bytes, of a place in a text. Both count from 1, as editors do.
inline std::string position(std::string_view text, std::size_t offset, const std::string& file) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t last_end = before.rfind('\n');
  const std::size_t column = last_end == std::string_view::npos ? before.size() : before.size() - last_end - 1;
  return fmt::format("{}:{}:{}", file, 1 + std::count(before.begin(), before.end(), '\n'), column + 1);
}

/// What stands at a place of a text, up to the end of its line, for a message.
inline std::string shown_line(std::string_view text, std::size_t offset) {
  constexpr std::size_t kMostChars = 40;
  const std::string_view rest = text.substr(offset);
  return std::string(rest.substr(0, std::min(rest.find_first_of("\r\n"), kMostChars)));
}

}  // namespace reshard
