// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Slurm's host lists. They are short texts for long lists, so everything is counted before it is made: first the text
// is cut and parsed, then the names are counted, and only then is one written.
#include "topology/read/node_list.h"

#include <fmt/format.h>

#include <algorithm>

#include "topology/read/number.h"

namespace reshard {
namespace {

// Host names have at most 255.
constexpr std::size_t kMostChars = 256;  // of a name

using Names = std::vector<std::string>;

Status error(std::string_view text, std::string_view message) {
  return invalid_argument(fmt::format("node list \"{:.60}\": {}", text, message));
}

/// Cuts `text` at commas outside of brackets.
Result<std::vector<std::string_view>> split(std::string_view text) {
  std::vector<std::string_view> items;
  std::size_t first = 0;
  // Brackets do not nest in this notation, so one bit is all that there is to know.
  bool inside = false;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && !inside)) {
      if (i == first) return error(text, "an empty name");
      items.push_back(text.substr(first, i - first));
      first = i + 1;
    } else if (text[i] == '[' || text[i] == ']') {
      if (inside == (text[i] == '[')) return error(text, "brackets that do not match");
      inside = text[i] == '[';
    }
  }
  if (inside) return error(text, "brackets that do not match");
  return items;
}

/// The numbers of "0001-0512" or "7".
struct Range {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::size_t width = 0;  // digits, filled up with zeros
};

/// "0001-0512": text in front of a bracket, and the ranges within it; none behind the last bracket.
struct Piece {
  std::string_view plain;
  std::vector<Range> ranges;
};

Result<Range> parse_range(std::string_view range, std::string_view text) {
  constexpr std::int64_t kMaxNumber = 1'000'000'000'000;
  const std::size_t dash = range.find('-');
  const std::string_view low = range.substr(0, dash);
  const std::string_view high = dash == std::string_view::npos ? low : range.substr(dash + 1);
  const std::string what = fmt::format("node list \"{:.60}\": a number", text);
  RESHARD_TRY(const std::int64_t first, parse_integer(low, 0, kMaxNumber, what));
  RESHARD_TRY(const std::int64_t last, parse_integer(high, 0, kMaxNumber, what));
  if (last < first) return error(text, "a range that ends before it starts");
  // "[1-10]" has width 1 and gives n1 to n10; "[01-10]" has width 2 and gives n01 to n10.
  return Range{first, last, low.size()};
}

/// The pieces of a name with brackets, such as "rack[1-2]node[01-18]".
Result<std::vector<Piece>> parse_item(std::string_view item, std::string_view text) {
  std::vector<Piece> pieces;
  std::size_t num_chars = 0;
  while (!item.empty()) {
    const std::size_t open = item.find('[');
    pieces.push_back({item.substr(0, open), {}});
    num_chars += pieces.back().plain.size();
    if (open == std::string_view::npos) break;
    const std::size_t close = item.find(']');  // split() saw that it is there
    RESHARD_TRY(const std::vector<std::string_view> ranges, split(item.substr(open + 1, close - open - 1)));
    std::size_t widest = 0;
    for (const std::string_view range : ranges) {
      RESHARD_TRY(const Range parsed, parse_range(range, text));
      pieces.back().ranges.push_back(parsed);
      widest = std::max(widest, parsed.width);
    }
    num_chars += widest;
    item.remove_prefix(close + 1);
  }
  if (num_chars > kMostChars) return error(text, fmt::format("a name of more than {} characters", kMostChars));
  return pieces;
}

/// How many names the pieces make; anything above `most` where they make more.
/// @pre `most` is at most kMaxNamedNodes, so that a product of two numbers below it fits.
std::int64_t count(const std::vector<Piece>& pieces, std::int64_t most) {
  std::int64_t names = 1;
  for (const Piece& piece : pieces) {
    if (piece.ranges.empty()) continue;
    std::int64_t numbers = 0;
    for (const Range& range : piece.ranges) {
      numbers += range.last - range.first + 1;
      // After each range: the sum of many could overflow.
      if (numbers > most) return numbers;
    }
    names *= numbers;  // both at most `most`, so that no product overflows
    if (names > most) return names;
  }
  return names;
}

/// Every name so far, with every number of the piece behind it.
///
/// The last brackets turn fastest: rack1node01, rack1node02, ..., rack2node01.
Names extend(Names names, const Piece& piece) {
  for (std::string& name : names) name += piece.plain;
  if (piece.ranges.empty()) return names;
  Names longer;
  for (const std::string& name : names) {
    for (const Range& range : piece.ranges) {
      for (std::int64_t i = range.first; i <= range.last; ++i)
        longer.push_back(name + fmt::format("{:0{}}", i, range.width));
    }
  }
  return longer;
}

}  // namespace

Result<Names> expand_node_list(std::string_view text, std::int64_t most) {
  RESHARD_TRY(const std::vector<std::string_view> items, split(text));
  std::vector<std::vector<Piece>> parsed;
  std::int64_t total = 0;
  for (const std::string_view item : items) {
    RESHARD_TRY(std::vector<Piece> pieces, parse_item(item, text));
    total += count(pieces, most);
    if (total > most) return error(text, fmt::format("more than {} names", most));
    parsed.push_back(std::move(pieces));
  }
  Names all;
  all.reserve(static_cast<std::size_t>(total));
  for (const std::vector<Piece>& pieces : parsed) {
    Names names = {""};
    for (const Piece& piece : pieces) names = extend(std::move(names), piece);
    for (std::string& name : names) all.push_back(std::move(name));
  }
  return all;
}

}  // namespace reshard
