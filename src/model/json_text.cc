// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Reads on to the first fault of a text and keeps where it lies: the parser tells that only to a reader of its events,
/// and puts no position into its exceptions for numbers that are too large.
class FaultFinder : public nlohmann::json_sax<Json> {
 public:
  std::size_t bytes_read() const { return bytes_read_; }  ///< up to and with the byte at fault
  const std::string& text() const { return text_; }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) override {
    bytes_read_ = position;
    text_ = error.what();
    return false;
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }

 private:
  std::size_t bytes_read_ = 0;
  std::string text_;
};

/// What the parser says of a fault, without its own name of the error and its own position.
std::string reason_of(const std::string& text) {
  std::size_t begin = 0;
  if (const std::size_t bracket = text.find("] "); text.starts_with("[json.") && bracket != std::string::npos) {
    begin = bracket + 2;
  }
  const std::string position = "parse error at line ";
  if (text.compare(begin, position.size(), position) == 0) begin = text.find(": ", begin) + 2;
  std::string reason = text.substr(begin, 300);
  // The text may quote half a character of UTF-8; messages must stay printable.
  std::replace_if(
      reason.begin(), reason.end(), [](char c) { return (c & 0x80) != 0; }, '?');
  return reason;
}

Status fault_of(const std::string& text) {
  FaultFinder finder;
  Json::sax_parse(text, &finder);
  const std::size_t at = std::min(std::max<std::size_t>(1, finder.bytes_read()), text.size() + 1) - 1;
  const auto fault = text.begin() + static_cast<std::ptrdiff_t>(at);
  const auto line = 1 + std::count(text.begin(), fault, '\n');
  const std::size_t newline = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  const std::size_t column = newline == std::string::npos ? at + 1 : at - newline;
  return invalid_argument(fmt::format("not JSON at line {}, column {}: {}", line, column, reason_of(finder.text())));
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
