// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>

#include "src/base/status.h"
#include "src/layout/layout.h"

namespace reshard {

/// The layout of a whole model from the text of its config.json and a line such as "megatron:tp=2,pp=2"; the README of
/// this folder lists the kinds and their keys.
/// num_layers: keep the first N decoder layers; 0: all. The layout's rank 0 is rank first_rank of the world, which has
/// num_ranks ranks; 0: as many as the layout needs.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for malformed or contradictory input, RESHARD_ERR_NOT_SUPPORTED for another
/// model family, RESHARD_ERR_IO for an unreadable eplb file.
Result<ModelLayout> make_model_layout(const std::string& config_json, const std::string& layout_text,
                                      std::int64_t num_layers, std::int32_t first_rank, std::int32_t num_ranks);

/// How many ranks a line such as "vllm:tp=2,replicas=4" needs.
Result<std::int32_t> layout_text_num_ranks(const std::string& text);

}  // namespace reshard
