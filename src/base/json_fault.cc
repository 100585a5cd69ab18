// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The parse that builds values does not say where it stopped in every case. So a text that it has refused is read
// again, as a stream of events, which keep the place.
#include "src/base/json_fault.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Reads on to the first fault of a text and keeps where it lies, which the parser tells only to a reader of its
/// events.
class FaultFinder : public nlohmann::json_sax<Json> {
 public:
  std::size_t num_bytes_read() const { return num_bytes_read_; }  ///< up to and with the byte at fault
  const std::string& text() const { return text_; }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) override {
    num_bytes_read_ = position;
    text_ = error.what();
    return false;
  }

  // What follows asks the parser to go on; the values do not matter here.
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
  std::size_t num_bytes_read_ = 0;
  std::string text_;
};

/// From "[json.exception.parse_error.101] parse error at line 1, column 5: REASON" the reason; other errors of the
/// parser have no position in their text.
std::string reason_of(const std::string& text) {
  constexpr std::size_t kMostChars = 300;
  std::size_t begin = 0;
  if (const std::size_t bracket = text.find("] "); text.starts_with("[json.") && bracket != std::string::npos) {
    begin = bracket + 2;
  }
  const std::string position = "parse error at line ";
  if (text.compare(begin, position.size(), position) == 0) begin = text.find(": ", begin) + 2;
  std::string reason = text.substr(begin, kMostChars);
  // The text may quote half a character of UTF-8; messages must stay printable.
  std::replace_if(
      reason.begin(), reason.end(), [](char c) { return (c & 0x80) != 0; }, '?');
  return reason;
}

}  // namespace

JsonFault find_json_fault(const std::string& text) {
  FaultFinder finder;
  Json::sax_parse(text, &finder);
  // Bytes read include the one at fault; where the text ends too early, its end counts as one more.
  const std::size_t read = std::clamp<std::size_t>(finder.num_bytes_read(), 1, text.size() + 1);
  return {read - 1, reason_of(finder.text())};
}

}  // namespace reshard
