// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <span>
#include <string>

#include "src/base/status.h"
#include "src/model/model_writer.h"

namespace reshard {

/// The model families that are known, a row for each model_type.
std::span<const Family> known_families();

/// Every parameter of the model that a Hugging Face config.json describes.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for malformed text and for values out of range, naming key and value;
/// RESHARD_ERR_NOT_SUPPORTED for a model_type without row.
Result<Model> read_model(const std::string& config_json, const ModelReadOptions& options = {},
                         std::span<const Family> families = known_families());

}  // namespace reshard
