// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// A line such as "megatron:tp=2,pp=2": the kind of layout and its settings, all of them known to that kind.
class LayoutText {
 public:
  /// Errors: an unknown kind or key (the message lists the known ones), a key without value, a repeated key.
  static Result<LayoutText> parse(const std::string& text);

  const std::string& text() const { return text_; }
  const std::string& kind() const { return kind_; }

  /// The value of a key, or nullptr when it was not given.
  const std::string* find(std::string_view key) const;

  /// The value as an integer of [min, kMaxRanks]; `fallback` when it was not given.
  Result<std::int32_t> integer(std::string_view key, std::int32_t fallback, std::int32_t min = 1) const;

  /// The value, which must be one of `words`; the first of them when it was not given.
  Result<std::string> word(std::string_view key, std::initializer_list<std::string_view> words) const;

  /// The value as numbers with dashes between them, "7-7-8"; empty when it was not given. `what` says in an error what
  /// was expected.
  Result<std::vector<std::int64_t>> list(std::string_view key, std::string_view what) const;

  /// The key `layers`, or another one for the same: of each of num_stages pipeline stages; empty when it was not given.
  Result<std::vector<std::int64_t>> layers_of_stages(std::int32_t num_stages, std::string_view key = "layers") const;

  /// An error about these settings, with the whole line in front.
  Status error(const std::string& message) const;

  /// Error unless `size` divides `count`; the names say what they are.
  Status check_divides(std::string_view size_name, std::int64_t size, std::string_view count_name,
                       std::int64_t count) const;

  /// The product of positive sizes. Error: more than kMaxRanks.
  Result<std::int32_t> num_ranks(std::initializer_list<std::int32_t> sizes) const;

 private:
  Status no_setting(std::size_t end) const;
  Status add_setting(const std::string& item, const std::vector<std::string_view>& known);

  std::string text_;
  std::string kind_;
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace reshard
