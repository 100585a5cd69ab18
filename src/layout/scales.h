// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Scales of tensors of 8-bit floats: which block of elements shares one, and where in the scale tensor it stands.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "reshard/layout.h"
#include "src/base/dtype.h"
#include "src/base/status.h"
#include "src/layout/box.h"

namespace reshard {

/// Which elements of a tensor [..., M, N] share a scale. Values equal reshard_scale_kind_t of the public header.
enum class ScaleKind : std::int8_t {
  kNone = RESHARD_SCALES_NONE,
  kBlock128 = RESHARD_SCALES_BLOCK128,  ///< 128 x 128 of the last two dims; F32
  kMxfp8 = RESHARD_SCALES_MXFP8,        ///< 32 along the last dim; F8_E8M0, powers of two
  kChannel = RESHARD_SCALES_CHANNEL,    ///< a row; F32
  kTensor = RESHARD_SCALES_TENSOR,      ///< the tensor, or each matrix of a stack of them; F32
};

/// "block128", "mxfp8", "channel", "tensor"; "none".
std::string_view name(ScaleKind kind);

/// The kind of that name. RESHARD_ERR_INVALID_ARGUMENT lists the known names otherwise.
Result<ScaleKind> parse_scale_kind(std::string_view text);

/// True for every value of the enumeration; false for an integer that only pretends to be one.
bool is_valid(ScaleKind kind);

/// The dtype of the scale tensor. @pre not kNone
DType scale_dtype(ScaleKind kind);

/// Whether a block's scale follows from its elements alone, and a block is small enough to lie whole on a rank. Those
/// of whole rows or tensors would need a pass over all shards, so they are given.
inline bool is_computable(ScaleKind kind) {
  return kind == ScaleKind::kBlock128 || kind == ScaleKind::kMxfp8;
}

/// How the elements of a tensor are divided into blocks. Dim d of the scale tensor counts the blocks along dim d of the
/// elements; it may have fewer dims, and a block reaches over all of a dim that it has not got.
struct ScaleGrid {
  int num_dims = 0;    ///< of the elements
  int scale_dims = 0;  ///< of the scales; at most num_dims
  Dims block;          ///< extents, at least 1
  Dims shape;          ///< of the elements

  Box scales_of(const Box& elements) const;  ///< of all blocks that the box meets. @pre not empty
  Box elements_of(const Box& scales) const;  ///< of these blocks
};

/// The shape of the scales where the caller has not given another one that the kind allows.
Result<std::vector<std::int64_t>> scale_shape(ScaleKind kind, const std::vector<std::int64_t>& elements);

/// The grid of a tensor of shape `elements` whose scales have the shape `scales`.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for a shape that the kind has not got, saying which it would be.
Result<ScaleGrid> make_scale_grid(ScaleKind kind, const std::vector<std::int64_t>& elements,
                                  const std::vector<std::int64_t>& scales);

}  // namespace reshard
