// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "perf/engine/error.h"

namespace reshard::perf {

std::int64_t parse_size_bytes(std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, problem] = std::from_chars(text.data(), end, value);
  const std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  int shift = 0;
  if (suffix == "K" || suffix == "k") shift = 10;
  if (suffix == "M" || suffix == "m") shift = 20;
  if (suffix == "G" || suffix == "g") shift = 30;
  const bool known_suffix = suffix.empty() || shift != 0;
  if (problem != std::errc() || !known_suffix || value < 0 || value > (INT64_MAX >> shift)) {
    fail("\"{}\" is no size in bytes: write a number with at most one of K, M, G after it, e.g. 64M", text);
  }
  return value << shift;
}

std::string format_bytes(std::int64_t size_bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(size_bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 2, kUnits[unit]);
}

std::string bytes_text(const nlohmann::json& size_bytes) {
  return format_bytes(size_bytes.get<std::int64_t>());
}

std::string format_seconds(double seconds) {
  constexpr std::array kUnits = {"s", "ms", "us"};
  std::size_t unit = 0;
  double value = seconds;
  while (value != 0 && value < 0.9995 && unit + 1 < kUnits.size()) {  // what rounds to 1.000 stays in its unit
    value *= 1000;
    ++unit;
  }
  int decimals = 3;
  for (double limit = 9.9995; decimals > 0 && value >= limit; limit *= 10) --decimals;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string name_pattern(std::string_view name) {
  std::string pattern;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool is_number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (begin != 0) pattern += '.';
    pattern += is_number ? "*" : part;
    begin = end + 1;
  }
  return pattern;
}

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) fail("cannot read {}: check that it exists and is a readable file", path);
  return std::move(text).str();
}

std::vector<std::int32_t> parse_rank_range(const std::string& text) {
  std::int32_t first = 0;
  std::int32_t last = 0;
  const char* const end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, first);
  last = first;
  if (error == std::errc() && rest != end && *rest == '-') {
    const auto second = std::from_chars(rest + 1, end, last);
    rest = second.ptr;
    error = second.ec;
  }
  if (error != std::errc() || rest != end || first < 0 || last < first)
    fail("\"{}\" is no range of ranks such as 24-31", text);
  std::vector<std::int32_t> ranks;
  for (std::int32_t rank = first; rank <= last; ++rank) ranks.push_back(rank);
  return ranks;
}

}  // namespace reshard::perf
