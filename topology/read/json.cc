// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/json.h"

#include <fmt/format.h>

#include "src/base/json_fault.h"
#include "topology/read/nesting.h"
#include "topology/read/position.h"

namespace reshard {

Result<nlohmann::json> parse_json(const std::string& text, const std::string& file) {
  constexpr int kMostLevels = 32;
  // The parser takes stack for every level, and a file of a few hundred kilobytes of brackets would use it up.
  if (nests_deeper_than(kMostLevels, text)) return invalid_argument(file + ": nested too deep");
  nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  const std::size_t offset = find_json_fault(text).offset;
  // There is no line to show where the text ends.
  if (offset >= text.size()) return invalid_argument(position(text, offset, file) + ": the JSON text ends too early");
  return invalid_argument(
      fmt::format("{}: no JSON from here on: \"{}\"", position(text, offset, file), shown_line(text, offset)));
}

}  // namespace reshard
