// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Places in texts for messages. Whoever wrote a file opens it at "file:12:5", as compilers have taught everybody.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "src/base/text_position.h"

namespace reshard {

/// "topo.xml:12:5": the line and the column of a place in a text, for messages.
inline std::string position(std::string_view text, std::size_t offset, const std::string& file) {
  const auto [line, column] = text_position(text, offset);
  return fmt::format("{}:{}:{}", file, line, column);
}

/// What stands at a place of a text, up to the end of its line, for a message.
inline std::string shown_line(std::string_view text, std::size_t offset) {
  // Files from a network may have lines of megabytes; a message has one.
  constexpr std::size_t kMostChars = 40;
  const std::string_view rest = text.substr(offset);
  return std::string(rest.substr(0, std::min(rest.find_first_of("\r\n"), kMostChars)));
}

}  // namespace reshard
