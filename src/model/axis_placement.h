// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/layout/layout.h"

namespace reshard {

/// What one mesh axis does to a tensor: it splits the dimension `dim`, or replicates.
struct AxisRule {
  std::optional<std::int64_t> dim;  ///< none: replicate
  Split split;                      ///< num_parts is ignored: it is the size of the axis
};

/// A tensor on a mesh, axis by axis, as people write it down: the JSON form and the C API.
struct AxisPlacement {
  MeshPtr mesh;
  std::vector<AxisRule> axes;  ///< one per mesh axis
  bool inner_first = false;    ///< several axes on one dim: the last of them splits first, not the first
  std::optional<std::vector<std::int64_t>> order;   ///< memory order of the local dims, slowest first; none: row-major
  std::optional<std::vector<std::int64_t>> pad_to;  ///< one local shape for all ranks, its tail zero-filled
};

/// The same, dimension by dimension; the buffer and the offset in it are left to the caller.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for rules that do not fit the mesh or the shape, an `order` that is no
/// permutation, a `pad_to` smaller than some local shape, more pieces than can be planned.
Result<Placement> make_placement(const Tensor& tensor, const AxisPlacement& axes);

}  // namespace reshard
