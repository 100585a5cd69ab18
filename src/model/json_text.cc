// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/json_text.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "src/base/json_fault.h"
#include "src/base/text_position.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

Status fault_of(const std::string& text) {
  const JsonFault fault = find_json_fault(text);
  const auto [line, column] = text_position(text, fault.offset);
  return invalid_argument(fmt::format("not JSON at line {}, column {}: {}", line, column, fault.reason));
}

}  // namespace

std::string describe(const Json& value) {
  constexpr std::size_t kMostChars = 200;
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) return fmt::format("an object of {} keys", value.size());
  std::string text = value.dump();
  if (text.size() <= kMostChars) return text;
  std::size_t length = kMostChars;
  while ((text[length] & 0xC0) == 0x80) --length;  // not inside a character of UTF-8
  return text.substr(0, length) + "...";
}

Result<Json> parse_json(const std::string& text) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open, the innermost last
  std::string repeated;
  const auto see = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      repeated = describe(parsed);
    }
    return true;
  };
  Json json = Json::parse(text, see, /*allow_exceptions=*/false);
  if (json.is_discarded()) return fault_of(text);
  if (!repeated.empty()) return invalid_argument(fmt::format("an object has the key {} twice", repeated));
  return json;
}

}  // namespace reshard
