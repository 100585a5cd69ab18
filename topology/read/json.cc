// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/json.h"

#include <fmt/format.h>

#include "topology/read/nesting.h"
#include "topology/read/position.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Reads a text again only to learn where it stops being JSON: the messages of the parser are for programmers.
class ErrorFinder : public nlohmann::json_sax<Json> {
 public:
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
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    num_read_ = position;
    return false;
  }

  /// Of the last byte that was read.
  std::size_t offset() const { return num_read_ > 0 ? num_read_ - 1 : 0; }

 private:
  std::size_t num_read_ = 0;
};

}  // namespace

Result<Json> parse_json(const std::string& text, const std::string& file) {
  constexpr int kMostLevels = 32;
  if (nests_deeper_than(kMostLevels, text)) return invalid_argument(file + ": nested too deep");
  Json value = Json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  ErrorFinder finder;
  Json::sax_parse(text, &finder);
  const std::size_t offset = finder.offset();
  if (offset >= text.size()) return invalid_argument(position(text, offset, file) + ": the JSON text ends too early");
  return invalid_argument(
      fmt::format("{}: no JSON from here on: \"{}\"", position(text, offset, file), shown_line(text, offset)));
}

}  // namespace reshard
