// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One file that can be mailed: the data are put into the page as JSON and drawn by its own script, without a server.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace reshard::perf {

/// A page that needs nothing but itself: what plan_report_json, plan_details and layout_pictures gave, and the script
/// that draws it.
std::string plan_page(const nlohmann::json& report, const nlohmann::json& details, const nlohmann::json& layouts);

/// perf/html/page.html, as the build found it.
std::string_view page_template();

}  // namespace reshard::perf
