// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/base/status.h"

namespace reshard {

/// The value of a JSON text. Errors name file, line and column; also nesting without end, which the parser has no limit
/// for.
Result<nlohmann::json> parse_json(const std::string& text, const std::string& file);

}  // namespace reshard
