// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/canonical_op.h"
#include "kernels/piece.h"
#include "kernels/scaled_piece.h"

namespace reshard {

struct RowKernels;

/// A copy made ready to run, but for its addresses: cut into a grid of two-dimensional pieces, and the kernels chosen
/// that run a piece. A piece has columns (the dim of the smallest destination stride) and rows; where a whole op is too
/// large for one, `tile_cols` by `tile_rows` of them make a piece, and the grid counts the tiles and all other dims.
struct NormalOp {
  enum class Kind : std::uint8_t {
    kFill,      ///< columns are bytes, contiguous
    kRows,      ///< columns are bytes, contiguous on both sides
    kElements,  ///< columns are elements of one type, apart on at least one side
    kConvert,   ///< columns are elements of two types
  };
  struct GridDim {
    std::int64_t count = 1;
    std::int64_t src_step = 0;
    std::int64_t dst_step = 0;
  };
  /// Bytes a dense tile may have: half of a first-level cache of 32 KiB, as two of them may be in use.
  static constexpr std::int64_t kTileBytes = 16 * 1024;
  /// Column tiles, row tiles, then the other dims, of which there are at most seven.
  static constexpr int kMaxGridDims = 9;

  // A piece that converts goes in up to three steps, and dense tiles lie between: gathered by `move` where the source
  // is apart, converted row by row, spread by `scatter` where the destination is. A step on a side that is dense is
  // left out (has_dense_src(), has_dense_dst()).
  PieceFn move = nullptr;                  ///< elements of the source, to the destination or into a dense tile
  PieceFn convert = nullptr;               ///< kConvert, without scales
  ScaledPieceFn convert_scaled = nullptr;  ///< kConvert, with scales
  PieceFn scatter = nullptr;               ///< kConvert: elements of the destination, from a dense tile
  CopyDim cols;
  CopyDim rows;
  std::int64_t tile_cols = 1;  ///< extents of a piece, less at the far edges
  std::int64_t tile_rows = 1;
  std::int64_t src_ahead_bytes = 0;  ///< see Piece
  std::int64_t dst_ahead_bytes = 0;
  bool prefetches_next = false;  ///< ask for the source of the next piece before a piece is run
  Kind kind = Kind::kRows;
  std::uint8_t src_element_bytes = 1;  ///< of a column
  std::uint8_t dst_element_bytes = 1;
  std::int32_t num_grid_dims = 2;
  GridDim grid[kMaxGridDims];     ///< fastest first
  ScaleDim scales[kMaxGridDims];  ///< of columns, of rows, and of the other dims of the grid, counted in elements
  DType scale_dtype = DType::kF32;

  /// Whether this is one run of bytes that is contiguous on both sides, copied as it is.
  bool is_one_run() const { return kind == Kind::kRows && rows.extent == 1 && num_grid_dims == 2; }
  bool is_scaled() const { return convert_scaled != nullptr; }
  bool has_dense_src() const { return cols.extent == 1 || cols.src_stride == src_element_bytes; }
  bool has_dense_dst() const { return cols.extent == 1 || cols.dst_stride == dst_element_bytes; }
};

/// Depends on the dims and types of the op, not on its addresses, but for whether it is a fill.
NormalOp normalize(const CanonicalOp& op, const RowKernels& kernels);

}  // namespace reshard
