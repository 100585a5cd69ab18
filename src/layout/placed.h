// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a placement means for one rank: which part of each dim, which array in which buffer, and the strided blocks that
// follow from both. All is computed from the placement when it is asked for; a layout for ten thousand ranks never
// holds their blocks.
#pragma once

#include <vector>

#include "src/layout/layout.h"

namespace reshard {

// What one rank has under a placement. `index` is the rank's position in the mesh.

/// Everything that ModelLayout::place promises to refuse.
Status check_placement(const Tensor& tensor, const Placement& placement, std::int32_t num_ranks, CheckedMaps* maps);

/// The part of dimension `dim` that the rank holds; a dimension without a map is one whole segment.
DimPart part_of(const Tensor& tensor, const Placement& placement, std::int64_t index, int dim);

/// Index into the map's parts, row-major over the dimension's axes.
std::int64_t part_index(const Mesh& mesh, const std::vector<int>& axes, std::int64_t index);

/// Extents of the rank's buffer per dimension.
Dims buffer_extents(const Tensor& tensor, const Placement& placement, std::int64_t index);

/// Bytes [begin, end) of a buffer.
struct ByteSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// From the first to the last byte of a block that is not empty; strides may be negative, and leave gaps in between.
ByteSpan byte_span(const Block& block, std::int64_t element_bytes);

/// What the rank's array takes of its buffer; {0, 0} for an array without elements.
ByteSpan placed_span(const Tensor& tensor, const Placement& placement, std::int64_t index);

/// Extents of the rank's local tensor per dimension: own padding included, other tensors of the buffer not.
Dims placed_local_shape(const Tensor& tensor, const Placement& placement, std::int64_t index);

/// Appends the rank's data and padding blocks.
/// @post they partition the local shape: every local index is in exactly one block
void append_blocks(const Tensor& tensor, std::int64_t tensor_index, const Placement& placement, std::int64_t index,
                   std::int64_t element_bytes, std::vector<Block>* out);

}  // namespace reshard
