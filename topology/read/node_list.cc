// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/node_list.h"

#include <fmt/format.h>

#include "topology/read/number.h"

namespace reshard {
namespace {

constexpr std::size_t kMostNames = std::size_t{1} << 20U;
constexpr std::size_t kMostChars = 256;  // of a name

using Names = std::vector<std::string>;

Status error(std::string_view text, const char* message) {
  return invalid_argument(fmt::format("node list \"{:.60}\": {}", text, message));
}

/// Cuts `text` at commas outside of brackets.
Result<std::vector<std::string_view>> split(std::string_view text) {
  std::vector<std::string_view> items;
  std::size_t first = 0;
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

/// The numbers of "0001-0512" or "7", in their width.
Result<Names> expand_range(std::string_view range, std::string_view text) {
  constexpr std::int64_t kMaxNumber = 1'000'000'000'000;
  const std::size_t dash = range.find('-');
  const std::string_view low = range.substr(0, dash);
  const std::string_view high = dash == std::string_view::npos ? low : range.substr(dash + 1);
  const std::string what = fmt::format("node list \"{:.60}\": a number", text);
  RESHARD_TRY(const std::int64_t first, parse_integer(low, 0, kMaxNumber, what));
  RESHARD_TRY(const std::int64_t last, parse_integer(high, 0, kMaxNumber, what));
  if (last < first) return error(text, "a range that ends before it starts");
  if (last - first >= static_cast<std::int64_t>(kMostNames)) return error(text, "more than 1048576 names");
  if (low.size() > kMostChars) return error(text, "a name of more than 256 characters");
  Names numbers;
  for (std::int64_t i = first; i <= last; ++i) numbers.push_back(fmt::format("{:0{}}", i, low.size()));
  return numbers;
}

/// Every prefix with every number of "1-4,7" behind it.
Result<Names> append_ranges(const Names& prefixes, std::string_view ranges, std::string_view text) {
  RESHARD_TRY(const std::vector<std::string_view> items, split(ranges));
  Names names;
  for (const std::string& prefix : prefixes) {
    for (const std::string_view range : items) {
      RESHARD_TRY(const Names numbers, expand_range(range, text));
      if (names.size() + numbers.size() > kMostNames) return error(text, "more than 1048576 names");
      for (const std::string& number : numbers) names.push_back(prefix + number);
    }
  }
  return names;
}

Result<Names> expand_item(std::string_view item, std::string_view text) {
  Names names = {""};
  while (!item.empty()) {
    const std::size_t open = item.find('[');
    const std::string_view plain = item.substr(0, open);
    for (std::string& name : names) name += plain;
    if (names.front().size() > kMostChars) return error(text, "a name of more than 256 characters");
    if (open == std::string_view::npos) break;
    const std::size_t close = item.find(']');  // split() saw that it is there
    RESHARD_TRY(names, append_ranges(names, item.substr(open + 1, close - open - 1), text));
    item.remove_prefix(close + 1);
  }
  return names;
}

}  // namespace

Result<Names> expand_node_list(std::string_view text) {
  RESHARD_TRY(const std::vector<std::string_view> items, split(text));
  Names names;
  for (const std::string_view item : items) {
    RESHARD_TRY(const Names more, expand_item(item, text));
    if (names.size() + more.size() > kMostNames) return error(text, "more than 1048576 names");
    names.insert(names.end(), more.begin(), more.end());
  }
  return names;
}

}  // namespace reshard
