// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/layout/layout.h"

namespace reshard {

// One layout out of many, where each rank has described only its own buffers and blocks.

/// What `rank` describes, as rank 0 of a world of its own: replicas, which hold the same at the same places, then have
/// equal layouts.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for placements, and for buffers and blocks of other ranks.
Result<ModelLayout> isolate(const ModelLayout& local, std::int32_t rank);

/// Adds an isolated layout to `merged` as that of `rank`. Tensors are matched by name.
/// Errors: RESHARD_ERR_LAYOUT_MISMATCH for a tensor that is there with another shape, dtype, group or scales.
Status merge(const ModelLayout& isolated, std::int32_t rank, ModelLayout* merged);

}  // namespace reshard
