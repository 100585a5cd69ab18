// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <string>

namespace reshard {

/// Where a text stops being JSON, for messages. The parser alone is no help there: its exceptions name no place when a
/// number is too large, and its messages are written for programmers.
struct JsonFault {
  std::size_t offset =
      0;  ///< of the byte that does not fit (of a number too large: its last); the text's size where it ends early
  std::string reason;  ///< in the parser's words, in ASCII, without its name of the error and its position
};

/// @pre `text` is not JSON: the parser refused it. Reads it a second time, so call it only then.
JsonFault find_json_fault(const std::string& text);

}  // namespace reshard
