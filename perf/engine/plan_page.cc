// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_page.h"

#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

constexpr std::string_view kPlaceholder = "@DATA@";

/// JSON that may stand in a script element: without "<" there is neither an end of the element in it nor a comment.
std::string script_safe(const nlohmann::json& data) {
  std::string out;
  for (const char c : data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)) {
    if (c == '<') {
      out += "\\u003c";  // "<" occurs in JSON only inside strings
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string plan_page(const nlohmann::json& report, const nlohmann::json& details, const nlohmann::json& layouts) {
  nlohmann::json shown = details;
  shown.erase("flows");  // for the trace; the page draws none of them
  const std::string_view page = page_template();
  const std::size_t at = page.find(kPlaceholder);
  if (at == std::string_view::npos) fail("the page built into this tool has no place for the data");
  std::string out(page.substr(0, at));
  out += script_safe({{"report", report}, {"details", std::move(shown)}, {"layouts", layouts}});
  out += page.substr(at + kPlaceholder.size());
  return out;
}

}  // namespace reshard::perf
