// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "perf/data/arena.h"
#include "perf/engine/job.h"

namespace reshard::perf {

/// Writes folder/rank00000.safetensors: each tensor that the rank holds at the destination, in its local shape with its
/// padding, row-major whatever the memory order. Writes nothing for a rank that is no destination.
void dump_destination(const std::string& folder, reshard_layout_t dst, std::int32_t rank,
                      const std::vector<TensorPair>& tensors, const Arena& arena);

}  // namespace reshard::perf
