// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Elements that a rank gets of one source tensor.
struct ManifestPiece {
  std::int64_t source = -1;       ///< tensor in Plan::src
  std::int32_t source_rank = -1;  ///< whose elements they are
  std::int32_t from_rank = -1;    ///< who gives them to the rank: itself, the source, or one that passes them on
  Box box;                        ///< in global indices; boxes of a tensor are disjoint
};

/// What completes one destination tensor on a rank.
struct ManifestTensor {
  std::int64_t tensor = -1;        ///< in the caller's destination layout
  std::int32_t group = -1;         ///< index in Plan::groups, in which it becomes complete
  bool is_converted = false;       ///< on this rank, from what the pieces bring; without pieces: from another tensor's
  std::int64_t num_elements = 0;   ///< of all pieces that bring elements of the tensor itself
  std::int64_t written_bytes = 0;  ///< in the rank's buffers: what is there twice counts twice
  std::int64_t zero_bytes = 0;     ///< padding that is filled with zeros
  std::int64_t untouched_bytes = 0;  ///< padding that is never written
  std::vector<ManifestPiece> pieces;
};

/// What a run of the plan brings to a rank, exactly: one entry for each destination tensor of which the rank has
/// anything, in the order of the layout. @pre check_routes(plan) is ok
std::vector<ManifestTensor> make_manifest(const Plan& plan, std::int32_t rank);

}  // namespace reshard
