// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace reshard::perf {

/// Writes --help: names and the kind of value in one column, what they mean in another, never wider than a terminal of
/// 80 columns. Limits and defaults stand in the text, in words.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_description(const CLI::App* app) const override;
};

/// Behind the options: every key of the layout texts, the models and the machines that the tools know.
std::string help_footer(const std::string& known_models);

}  // namespace reshard::perf
