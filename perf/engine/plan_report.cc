// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <vector>

#include "perf/engine/error.h"

namespace reshard::perf {

nlohmann::json plan_report(reshard_plan_t plan) {
  const char* text = nullptr;
  check(reshard_plan_report_json(plan, &text), "reading the report of a plan");
  return nlohmann::json::parse(text);
}

std::string skipped_text(const nlohmann::json& report) {
  std::string text;
  for (const auto& [side, names] : report.at("unmatched").items()) {
    if (names.empty()) continue;
    const auto listed = names.get<std::vector<std::string>>();
    text += fmt::format("only at the {}, so left as they are ({}): {}\n", side, listed.size(), fmt::join(listed, ", "));
  }
  return text;
}

std::int64_t peak_rss_bytes() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace reshard::perf
