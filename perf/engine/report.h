// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Text and JSON of a report are made of the same values, and the text of a plan from its JSON, so that the two cannot
// disagree.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "perf/engine/live_run.h"
#include "perf/engine/options.h"

namespace reshard::perf {

// What the tools print for a person, and what --json writes; perf/README.md documents the keys.
std::string live_report_text(const PerfOptions& options, const LiveResult& result);
nlohmann::json live_report_json(const PerfOptions& options, const LiveResult& result);

/// `report` is plan_report_json's.
std::string plan_report_text(const JobOptions& options, const nlohmann::json& report);
nlohmann::json plan_report_json(const JobOptions& options, nlohmann::json plan, double layout_seconds);

/// The parts of it that only the report of a plan for a machine has.
std::string machine_line(const nlohmann::json& report);
std::string machine_report_text(const nlohmann::json& report);

}  // namespace reshard::perf
