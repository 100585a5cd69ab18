// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/number.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace reshard {
namespace {

// As bits per second 125 TB/s, above any link or memory of today; a larger number is a slip of the pen.
constexpr std::int64_t kMost = 1'000'000'000'000'000;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Of a text from a file, for a message: one that ends, and in which nothing but the text itself is odd.
std::string shown(std::string_view text) {
  constexpr std::size_t kMostChars = 60;
  return std::string(text.substr(0, kMostChars)) + (text.size() > kMostChars ? "..." : "");
}

struct Decimal {
  __int128 digits = 0;
  int exponent = 0;
};

/// False when the text is no decimal of few enough digits.
///
/// By hand, since the library's parsers of numbers either round to a float or know no decimals.
bool read_decimal(std::string_view text, Decimal* decimal) {
  constexpr int kMaxDigits = 30;
  std::size_t i = 0;
  int num_digits = 0;
  bool seen_point = false;
  for (; i < text.size() && (is_digit(text[i]) || (text[i] == '.' && !seen_point)); ++i) {
    if (text[i] == '.') {
      seen_point = true;
      continue;
    }
    // Thirty digits stay below 2^100, so that the sum cannot overflow 128 bits; zeros in front count, and nobody writes
    // them.
    if (++num_digits > kMaxDigits) return false;
    decimal->digits = decimal->digits * 10 + (text[i] - '0');
    if (seen_point) --decimal->exponent;
  }
  if (num_digits == 0) return false;
  if (i == text.size()) return true;
  if (text[i] != 'e' && text[i] != 'E') return false;
  ++i;
  if (i < text.size() && text[i] == '+') ++i;
  int exponent = 0;
  const auto parsed = std::from_chars(text.data() + i, text.data() + text.size(), exponent);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return false;
  if (exponent < -kMaxDigits || exponent > kMaxDigits) return false;
  decimal->exponent += exponent;
  return true;
}

}  // namespace

Result<std::int64_t> parse_integer(std::string_view text, std::int64_t min, std::int64_t max, const std::string& what) {
  std::int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
  if (is_whole && value >= min && value <= max) return value;
  return invalid_argument(fmt::format("{} is \"{}\"; give an integer from {} to {}", what, shown(text), min, max));
}

Result<std::int64_t> parse_decimal(std::string_view text, std::int64_t scale, const std::string& what) {
  const Status bad =
      invalid_argument(fmt::format("{} is \"{}\"; give a number such as 2, 0.5 or 50e9", what, shown(text)));
  Decimal decimal;
  if (!read_decimal(text, &decimal)) return bad;
  if (decimal.digits == 0) return std::int64_t{0};
  // The scale first, for it may make up for digits behind the point. Ten digits of scale and thirty of text do not fit
  // together, but a number that large is refused all the same.
  constexpr __int128 kRoom = static_cast<__int128>(1) << 88U;
  if (decimal.digits > kRoom) return bad;
  __int128 value = decimal.digits * scale;
  // Stops above kMost, so that an exponent of thirty does not overflow; what is cut off on the way down is rounded
  // down.
  for (; decimal.exponent > 0 && value <= kMost; --decimal.exponent) value *= 10;
  for (; decimal.exponent < 0 && value > 0; ++decimal.exponent) value /= 10;
  if (value > kMost) return bad;
  return static_cast<std::int64_t>(value);
}

Result<std::int64_t> parse_bytes_per_s(std::string_view text, bool plain_is_bits, const std::string& what) {
  struct Unit {
    std::string_view suffix;
    std::int64_t bits;
  };
  // Networks are sold in bits and memory in bytes, so that both have units of their own.
  static constexpr std::array<Unit, 8> kUnits = {{{"kbit", 1'000},
                                                  {"mbit", 1'000'000},
                                                  {"gbit", 1'000'000'000},
                                                  {"tbit", 1'000'000'000'000},
                                                  {"kB", 8'000},
                                                  {"MB", 8'000'000},
                                                  {"GB", 8'000'000'000},
                                                  {"TB", 8'000'000'000'000}}};
  std::int64_t bits = plain_is_bits ? 1 : 8;
  // No unit is the end of another, so at most one fits.
  std::string_view number = text;
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.suffix)) continue;
    number.remove_suffix(unit.suffix.size());
    bits = unit.bits;
  }
  constexpr std::int64_t kLeastBitsPerS = 8000;
  const Result<std::int64_t> bits_per_s = parse_decimal(number, bits, what);
  if (bits_per_s.ok() && *bits_per_s >= kLeastBitsPerS) return *bits_per_s / 8;
  return invalid_argument(
      fmt::format("{} is \"{}\"; give a speed per second of 1kB to 125TB, with a unit (kbit, mbit, gbit, tbit, kB, MB, "
                  "GB, TB), e.g. 400gbit; a plain number is in {}",
                  what, shown(text), plain_is_bits ? "bits" : "bytes"));
}

}  // namespace reshard
