// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Tensors by kind: "model.layers.*.mlp.up_proj.weight" stands for those of all layers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perf/data/arena.h"
#include "perf/engine/job.h"

namespace reshard::perf {

/// The tensors whose names differ only in numbers: one row of the report.
struct Pattern {
  std::string name;
  std::vector<std::size_t> tensors;  ///< indices of the job's pairs
};

/// The patterns in the order of their first tensors.
std::vector<Pattern> group_by_pattern(const std::vector<TensorPair>& tensors);

/// Some tensors of a layout as a layout of their own, in the same buffers.
struct SubLayout {
  Layout layout;
  std::vector<reshard_buffer_t> buffers;  ///< of this rank, in its arena
};

/// `tensors`: indices in `layout`. `arena`: `rank`'s buffers of `layout`.
SubLayout extract_tensors(reshard_layout_t layout, const std::vector<std::int64_t>& tensors, std::int32_t rank,
                          const Arena& arena);

}  // namespace reshard::perf
