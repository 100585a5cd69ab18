// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/base/status.h"
#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"

namespace reshard {

/// FSDP1, whose units are single vectors: the parameters of a layer, or of all that lies outside the layers, flattened
/// one behind another, of which each rank holds one chunk.
struct FlatUnits {
  std::int32_t shard = 1;
  std::int32_t replicate = 1;
  bool is_aligned = false;          ///< every parameter begins at a multiple of 16 bytes (use_orig_params)
  bool has_stacked_experts = true;  ///< the experts of a layer are two parameters, else three for each
};

/// Places the model's parameters; rank = replicate index * shard + shard index.
/// Errors: RESHARD_ERR_NOT_SUPPORTED for a family whose order of parameters within a layer is not known here;
/// RESHARD_ERR_INVALID_ARGUMENT for a unit with parameters of several types, which FSDP1 refuses.
Status place_flat_units(const LayoutText& text, const FlatUnits& settings, LayoutBuilder* builder);

}  // namespace reshard
