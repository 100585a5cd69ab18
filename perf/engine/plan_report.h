// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "reshard/reshard.h"

namespace reshard::perf {

/// The library's report on a plan.
nlohmann::json plan_report(reshard_plan_t plan);

/// Lines that name the tensors that only one side has and the plan skipped; empty where there are none.
std::string skipped_text(const nlohmann::json& report);

/// Most memory that this process has had resident.
std::int64_t peak_rss_bytes();

}  // namespace reshard::perf
