// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_page.h"

#include <gtest/gtest.h>

#include <string>

namespace reshard::perf {
namespace {

using nlohmann::json;

constexpr std::string_view kBegin = R"(<script type="application/json" id="data">)";

/// What stands between the tags of the data, as an HTML parser sees it: up to the first end tag.
std::string data_of(const std::string& page) {
  const std::size_t begin = page.find(kBegin) + kBegin.size();
  return page.substr(begin, page.find("</script", begin) - begin);
}

TEST(PlanPage, HoldsItsDataAsTheyAre) {
  const json report = {{"job", "a -> b"}, {"estimate_seconds", 1.25}};
  const json details = {{"cells", {{0, 1, 7}}}};
  const json layouts = {{"kinds", {{{"kind", "w"}}}}};
  const json data = json::parse(data_of(plan_page(report, details, layouts)));
  EXPECT_EQ(data.at("report"), report);
  EXPECT_EQ(data.at("details"), details);
  EXPECT_EQ(data.at("layouts"), layouts);
}

TEST(PlanPage, NoNameEndsTheScript) {
  const json report = {{"job", "</script><script>alert(1)</script><!-- <script>"}};
  const std::string text = data_of(plan_page(report, json::object(), json::object()));
  EXPECT_EQ(text.find('<'), std::string::npos);
  EXPECT_EQ(json::parse(text).at("report"), report);
}

TEST(PlanPage, BrokenTextIsShownNotRefused) {
  const json report = {{"job", "\xff.json"}};
  EXPECT_NO_THROW((void)json::parse(data_of(plan_page(report, json::object(), json::object()))));
}

TEST(PlanPage, LeavesOutTheFlowsThatItDoesNotDraw) {
  const json details = {{"seconds", 1.0}, {"flows", {1, 2, 3}}};
  EXPECT_EQ(json::parse(data_of(plan_page(json::object(), details, json::object()))).at("details"),
            json({{"seconds", 1.0}}));
}

TEST(PlanPage, IsWhatTheTreeHolds) {
  const std::string_view page = page_template();
  EXPECT_EQ(page.substr(0, 15), "<!doctype html>");
  EXPECT_EQ(page.substr(page.size() - 8), "</html>\n");
  EXPECT_EQ(page.find("@DATA@"), page.rfind("@DATA@"));
}

}  // namespace
}  // namespace reshard::perf
