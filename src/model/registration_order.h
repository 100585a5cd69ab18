// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <vector>

#include "src/base/status.h"
#include "src/model/parameter.h"

namespace reshard {

/// The indices of the model's parameters, unit by unit in the order in which transformers' modules register them, which
/// is not always that of a forward pass. A unit is a layer, or all that lies outside the layers.
/// Error: RESHARD_ERR_NOT_SUPPORTED for a family of which that order is not known here.
Result<std::vector<std::vector<std::size_t>>> registration_order(const Model& model, bool has_stacked_experts);

}  // namespace reshard
