// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/name_filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace reshard {
namespace {

/// Patterns, and which of them have matched something.
class Patterns {
 public:
  Patterns(std::string_view what, const std::vector<std::string>& patterns)
      : what_(what), patterns_(patterns), has_matched_(patterns.size(), false) {}

  /// Tries all of them, also behind the first that fits, so that none is called useless that is only redundant.
  bool any_matches(std::string_view name) {
    bool any = false;
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
      if (!matches(patterns_[i], name)) continue;
      has_matched_[i] = true;
      any = true;
    }
    return any;
  }

  Status check_all_matched() const {
    const auto idle = std::find(has_matched_.begin(), has_matched_.end(), false);
    if (idle == has_matched_.end()) return {};
    return invalid_argument(
        fmt::format("{} pattern \"{}\" matches no tensor of the model; names are such as "
                    "model.layers.0.mlp.down_proj.weight",
                    what_, patterns_[static_cast<std::size_t>(idle - has_matched_.begin())]));
  }

 private:
  std::string_view what_;
  const std::vector<std::string>& patterns_;
  std::vector<bool> has_matched_;
};

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  // On a mismatch the latest * takes one character more; earlier ones need not be tried again, since whatever they
  // could take instead the latest can take too. Time: pattern x name.
  std::size_t p = 0, n = 0, star = std::string_view::npos, taken_to = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken_to = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken_to;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

Result<std::vector<std::size_t>> select_by_name(const Model& model, const std::vector<std::string>& include,
                                                const std::vector<std::string>& exclude) {
  std::vector<std::size_t> selected;
  if (include.empty() && exclude.empty()) {
    selected.resize(model.params.size());
    std::iota(selected.begin(), selected.end(), std::size_t{0});
    return selected;
  }
  Patterns kept("include", include), left_out("exclude", exclude);
  for (std::size_t i = 0; i < model.params.size(); ++i) {
    const std::string name = checkpoint_name(model, model.params[i]);
    const bool is_kept = kept.any_matches(name) || include.empty();
    if (!left_out.any_matches(name) && is_kept) selected.push_back(i);
  }
  RESHARD_TRY(kept.check_all_matched());
  RESHARD_TRY(left_out.check_all_matched());
  if (selected.empty()) return invalid_argument("include and exclude leave no tensor of the model");
  return selected;
}

}  // namespace reshard
