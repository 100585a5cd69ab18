// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs the copies of a list piece by piece. A piece is small, a dense tile where elements are rearranged and some 64
// KiB where bytes are only moved, so that a caller with a budget of bytes gets its turn after a few of them.
//
// Elements that are not dense on a side go through a tile on the stack: gathered into it, converted in it, and written
// out as rows. That is one more copy within the cache, and the price for kernels that know dense rows only.
#include "kernels/copy_list.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <optional>

#include "kernels/ieee_mode.h"
#include "kernels/rows.h"

namespace reshard {
namespace {

using Kind = NormalOp::Kind;

// A walk over the pieces of a copy, the fastest grid dim first. Steps are additions; only the start divides.
class Cursor {
 public:
  Cursor(const NormalOp& op, const PlacedCopy& place, std::int64_t piece) : op_(op), src_(place.src), dst_(place.dst) {
    for (int d = 0; d < op.num_grid_dims; ++d) {
      index_[d] = piece % op.grid[d].count;
      piece /= op.grid[d].count;
      move(d, index_[d]);
    }
  }

  /// The scale of the piece's first element, and where that lies in its block. Divides, but a piece is large.
  ScaledPiece scaled(const std::byte* scales, const Piece& piece) const {
    ScaledPiece scaled{piece, scales, op_.scale_dtype, op_.scales[0], op_.scales[1]};
    for (int d = 0; d < op_.num_grid_dims; ++d) {
      const ScaleDim& dim = op_.scales[d];
      const std::int64_t tile = d == 0 ? op_.tile_cols : d == 1 ? op_.tile_rows : 1;
      const std::int64_t at = dim.offset + index_[d] * tile;
      scaled.scales += at / dim.block * dim.stride_bytes;
      if (d == 0) scaled.cols.offset = at % dim.block;
      if (d == 1) scaled.rows.offset = at % dim.block;
    }
    return scaled;
  }

  Piece piece() const {
    Piece piece{src_, dst_, op_.cols, op_.rows, op_.src_ahead_bytes, op_.dst_ahead_bytes};
    piece.cols.extent = std::min(op_.tile_cols, op_.cols.extent - index_[0] * op_.tile_cols);
    piece.rows.extent = std::min(op_.tile_rows, op_.rows.extent - index_[1] * op_.tile_rows);
    return piece;
  }

  // False at the end.
  bool step() {
    for (int d = 0; d < op_.num_grid_dims; ++d) {
      if (++index_[d] < op_.grid[d].count) {
        move(d, 1);
        return true;
      }
      move(d, 1 - op_.grid[d].count);
      index_[d] = 0;
    }
    return false;
  }

 private:
  void move(int d, std::int64_t steps) {
    if (src_ != nullptr) src_ += steps * op_.grid[d].src_step;
    dst_ += steps * op_.grid[d].dst_step;
  }

  const NormalOp& op_;
  const std::byte* src_;
  std::byte* dst_;
  std::int64_t index_[NormalOp::kMaxGridDims] = {};
};

// Runs single pieces in one manner of storing.
class PieceRunner {
 public:
  PieceRunner(const RowKernels& kernels, bool is_streaming)
      : kernels_(kernels),
        copy_(is_streaming ? kernels.copy_streaming : kernels.copy_cached),
        fill_(is_streaming ? kernels.fill_streaming : kernels.fill_cached),
        is_streaming_(is_streaming) {}

  // Asks for the source of a transpose that is run next: its columns are runs of bytes there.
  void prefetch(const NormalOp& op, const Piece& piece) const {
    kernels_.prefetch({piece.src, piece.dst, {piece.rows.extent * op.src_element_bytes, 1, 1}, piece.cols});
  }

  void run(const NormalOp& op, const Piece& piece) const {
    switch (op.kind) {
      case Kind::kFill:
        return fill_(piece);
      case Kind::kRows:
        return copy_(piece);
      case Kind::kElements:
        return move_elements(op, piece);
      case Kind::kConvert:
        return convert(op, piece, [&](const Piece& dense) { op.convert(dense); });
    }
  }

  void run(const NormalOp& op, const ScaledPiece& scaled) const {
    convert(op, scaled.piece, [&](const Piece& dense) {
      ScaledPiece there = scaled;
      there.piece = dense;
      op.convert_scaled(there);
    });
  }

 private:
  void move_elements(const NormalOp& op, const Piece& piece) const {
    if (!op.has_dense_dst()) return op.move(piece);
    alignas(64) std::byte tile[NormalOp::kTileBytes];
    op.move(into_tile(piece, tile, op.src_element_bytes));
    write_rows(tile, piece, piece.cols.extent * op.dst_element_bytes);
  }

  // `convert_rows` takes a piece that is dense on both sides.
  template <typename ConvertRows>
  void convert(const NormalOp& op, const Piece& piece, const ConvertRows& convert_rows) const {
    // Up to three steps, each left out where its side is dense: gather, convert, scatter. Streaming stores write whole
    // cache lines, which the converting kernels do not, so that then even a dense destination goes through the tile.
    alignas(64) std::byte src_tile[NormalOp::kTileBytes];
    alignas(64) std::byte dst_tile[NormalOp::kTileBytes];
    Piece dense = piece;
    if (!op.has_dense_src()) {
      op.move(into_tile(piece, src_tile, op.src_element_bytes));
      dense = from_tile(src_tile, piece, op.src_element_bytes);
    }
    if (op.has_dense_dst() && !is_streaming_) return convert_rows(dense);
    convert_rows(into_tile(dense, dst_tile, op.dst_element_bytes));
    if (op.has_dense_dst()) return write_rows(dst_tile, piece, piece.cols.extent * op.dst_element_bytes);
    op.scatter(from_tile(dst_tile, piece, op.dst_element_bytes));
  }

  // The same piece with a dense tile as its destination, or as its source.
  static Piece into_tile(Piece piece, std::byte* tile, std::int64_t element_bytes) {
    piece.dst = tile;
    piece.cols.dst_stride = element_bytes;
    piece.rows.dst_stride = element_bytes * piece.cols.extent;
    return piece;
  }
  static Piece from_tile(const std::byte* tile, Piece piece, std::int64_t element_bytes) {
    piece.src = tile;
    piece.cols.src_stride = element_bytes;
    piece.rows.src_stride = element_bytes * piece.cols.extent;
    return piece;
  }

  // Rows of a dense tile to the destination rows of `piece`.
  void write_rows(const std::byte* tile, const Piece& piece, std::int64_t row_bytes) const {
    Piece out{tile, piece.dst, {row_bytes, 1, 1}, {piece.rows.extent, row_bytes, piece.rows.dst_stride}};
    // Rows that touch are one long row, which is copied faster and can be streamed.
    if (out.rows.dst_stride == row_bytes) {
      out.cols.extent *= out.rows.extent;
      out.rows.extent = 1;
    }
    copy_(out);
  }

  const RowKernels& kernels_;
  PieceFn copy_;
  PieceFn fill_;
  bool is_streaming_;
};

}  // namespace

void CopyList::add(const CopyOp& op) {
  assert(is_possible(op));
  if (num_bytes_of(op) == 0) return;
  if (table_ == nullptr) table_ = std::make_shared<CopyTable>();
  table_->append(table_->prepare(op), num_bytes_of(op));
}

PlacedCopy CopyList::op(std::size_t index) const {
  PlacedCopy copy = table_->copy(place_, index);
  if (copy.src != nullptr) copy.src += src_shift_bytes_;
  copy.dst += dst_shift_bytes_;
  return copy;
}

void CopyList::run(StoreHint hint) const {
  Position position;
  run_some(&position, std::numeric_limits<std::int64_t>::max(), hint);
}

bool CopyList::run_some(Position* position, std::int64_t budget_bytes, StoreHint hint) const {
  if (empty()) return true;
  const bool is_streaming =
      hint == StoreHint::kStreaming || (hint == StoreHint::kAuto && num_bytes() > streaming_threshold_bytes());
  const RowKernels& kernels = table_->shapes().kernels();
  const PieceRunner runner(kernels, is_streaming);
  // position->row counts pieces, in the order of Cursor: a place in the work that holds whatever the budget was before.
  const std::size_t count = num_ops();
  std::optional<IeeeMode> mode;  // from the first copy on that computes
  while (position->op < count && budget_bytes > 0) {
    const PlacedCopy place = this->op(position->op);
    const NormalOp& op = shape_of(place);
    if (op.is_scaled() && !mode.has_value()) mode.emplace();
    Cursor cursor(op, place, position->row);
    bool has_more = true;
    while (has_more && budget_bytes > 0) {
      const Piece piece = cursor.piece();
      const ScaledPiece scaled = op.is_scaled() ? cursor.scaled(place.scales, piece) : ScaledPiece{};
      budget_bytes -= piece.cols.extent * piece.rows.extent * op.dst_element_bytes;
      ++position->row;
      // Stepped before the piece is run: the next one's source is asked for while this one is moved.
      has_more = cursor.step();
      if (has_more && op.prefetches_next) runner.prefetch(op, cursor.piece());
      op.is_scaled() ? runner.run(op, scaled) : runner.run(op, piece);
    }
    if (!has_more) *position = {position->op + 1, 0};
  }
  // Streaming stores are ordered with nothing. Whoever is told that the copy is done, a peer perhaps, must see its
  // bytes.
  if (is_streaming) kernels.fence();
  return position->op == count;
}

}  // namespace reshard
