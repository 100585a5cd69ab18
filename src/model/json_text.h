// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/base/status.h"

namespace reshard {

/// A value for a message. Lists and objects are named, not printed: they may be large, and nested without limit.
std::string describe(const nlohmann::json& value);

/// Parses a text, refusing also a key that an object has twice, where the parser alone would keep the last one.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT with the line, the column in bytes (both from 1), and what was expected there.
Result<nlohmann::json> parse_json(const std::string& text);

}  // namespace reshard
