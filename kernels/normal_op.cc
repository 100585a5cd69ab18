// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Chooses how a copy is run. In this order: a run of bytes that is contiguous on both sides is moved as rows; else,
// with small elements, the source decides: where it is contiguous along another dim than the destination, the piece is
// a transpose, a tile as square as possible; else the elements are gathered along the destination.
#include "kernels/normal_op.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/rows.h"

namespace reshard {
namespace {

// Kernels move so many rows of a piece at a time.
constexpr std::int64_t kRowsSideBySide = 8;

// The dims of an op that are not yet part of its pieces, the smallest destination stride first.
struct DimList {
  ScaledDim dims[CopyOp::kMaxDims];
  int size = 0;

  explicit DimList(const CanonicalOp& op) : size(op.num_dims) { std::copy(op.dims, op.dims + op.num_dims, dims); }

  ScaledDim take(int index) {  // a dim of extent 1 where there is none
    if (index >= size) return {};
    const ScaledDim taken = dims[index];
    std::copy(dims + index + 1, dims + size, dims + index);
    --size;
    return taken;
  }
};

// The dim along which the source is read best; -1 if that is the one along which the destination is written.
int find_source_dim(const DimList& list) {
  int best = 0;
  for (int d = 1; d < list.size; ++d) {
    const std::int64_t stride = std::abs(list.dims[d].src_stride);
    if (stride != 0 && stride < std::abs(list.dims[best].src_stride)) best = d;
  }
  return best == 0 ? -1 : best;
}

// Whether the source is contiguous along the rows of a piece, not along its columns.
bool is_transpose(const NormalOp& op) {
  return op.rows.extent > 1 && op.rows.src_stride == op.src_element_bytes;
}

// Columns are bytes: a run that is contiguous on both sides, or one element.
void make_rows(DimList* list, std::int64_t run_bytes, NormalOp* normal) {
  constexpr std::int64_t kPieceBytes = 64 * 1024;  // large enough to hide the cost of a step, small for run_some
  normal->cols = {run_bytes, 1, 1};
  normal->rows = list->take(0);
  normal->tile_cols = std::min(run_bytes, kPieceBytes);
  normal->tile_rows = std::min(normal->rows.extent, kPieceBytes / normal->tile_cols);
}

// Columns are elements. A piece fits a dense tile; a transposing one is as square in bytes as its extents allow, so
// that it uses up the cache lines that it touches on either side.
void make_elements(DimList* list, NormalOp* normal) {
  constexpr std::int64_t kSquareBytes = 256;
  const std::int64_t element_bytes = std::max(normal->src_element_bytes, normal->dst_element_bytes);
  const std::int64_t tile_elements = NormalOp::kTileBytes / element_bytes;
  const int source_dim = find_source_dim(*list);
  const bool is_transposing = source_dim > 0;
  ScaledDim rows_taken;
  if (is_transposing) rows_taken = list->take(source_dim);
  const ScaledDim cols_taken = list->take(0);
  if (!is_transposing) rows_taken = list->take(0);
  normal->cols = cols_taken;
  normal->rows = rows_taken;
  normal->scales[0] = cols_taken.scale;
  normal->scales[1] = rows_taken.scale;
  const std::int64_t cols = normal->cols.extent;
  const std::int64_t rows = normal->rows.extent;
  normal->tile_cols = std::min(cols, is_transposing ? kSquareBytes / element_bytes : tile_elements);
  normal->tile_rows = std::min(rows, tile_elements / normal->tile_cols);
  normal->tile_cols = std::min(cols, tile_elements / normal->tile_rows);
}

void make_grid(const DimList& list, NormalOp* normal) {
  const auto tiles = [](const CopyDim& dim, std::int64_t tile) {
    return NormalOp::GridDim{(dim.extent + tile - 1) / tile, dim.src_stride * tile, dim.dst_stride * tile};
  };
  normal->grid[0] = tiles(normal->cols, normal->tile_cols);
  normal->grid[1] = tiles(normal->rows, normal->tile_rows);
  for (int d = 0; d < list.size; ++d) {
    normal->grid[2 + d] = tiles(list.dims[d], 1);
    normal->scales[2 + d] = list.dims[d].scale;
  }
  normal->num_grid_dims = 2 + list.size;
}

// Plain copies and fills: the contiguous inner dim, if there is one, becomes part of the unit that is moved.
void normalize_copy(DimList* list, const CanonicalOp& op, const RowKernels& kernels, NormalOp* normal) {
  const bool is_fill = op.src == nullptr;
  std::int64_t unit_bytes = size_bytes(op.dst_dtype);
  if (list->size > 0 && list->dims[0].dst_stride == unit_bytes && list->dims[0].src_stride == unit_bytes) {
    unit_bytes *= list->take(0).extent;
  }
  const bool is_scalar = unit_bytes == 1 || unit_bytes == 2 || unit_bytes == 4 || unit_bytes == 8;
  const bool is_transposing = unit_bytes <= 16 && find_source_dim(*list) > 0;
  if (is_fill || list->size == 0 || !(is_scalar || (unit_bytes == 16 && is_transposing))) {
    normal->kind = is_fill ? NormalOp::Kind::kFill : NormalOp::Kind::kRows;
    return make_rows(list, unit_bytes, normal);
  }
  normal->kind = NormalOp::Kind::kElements;
  normal->src_element_bytes = normal->dst_element_bytes = static_cast<std::uint8_t>(unit_bytes);
  make_elements(list, normal);
  const bool is_turn = is_transpose(*normal) && normal->has_dense_dst();
  const int index = RowKernels::index_of_size(unit_bytes);
  normal->move = is_turn ? kernels.transpose[index] : kernels.strided[index];
}

void normalize_convert(DimList* list, const CanonicalOp& op, const RowKernels& kernels, NormalOp* normal) {
  normal->kind = NormalOp::Kind::kConvert;
  normal->src_element_bytes = static_cast<std::uint8_t>(size_bytes(op.src_dtype));
  normal->dst_element_bytes = static_cast<std::uint8_t>(size_bytes(op.dst_dtype));
  make_elements(list, normal);
  const bool is_turn = is_transpose(*normal);
  const int src_index = RowKernels::index_of_size(normal->src_element_bytes);
  normal->move = is_turn ? kernels.transpose[src_index] : kernels.strided[src_index];
  if (!op.is_scaled()) {
    normal->convert = kernels.convert[float_index(op.src_dtype)][float_index(op.dst_dtype)];
  } else if (op.dst_dtype == DType::kF8E4M3) {
    normal->convert_scaled = kernels.quantise[float_index(op.src_dtype)];
  } else {
    normal->convert_scaled = kernels.dequantise[float_index(op.dst_dtype)];
  }
  normal->scale_dtype = op.scale_dtype;
  normal->scatter = kernels.strided[RowKernels::index_of_size(normal->dst_element_bytes)];
}

// How far away the bytes lie that are moved about `distance` bytes later. Not within one piece, whose rows are moved
// side by side: it is rows of the next one, or, in rows of several pieces, the next part of the row. Behind the end of
// a row lies what is not wanted, so that the distance is short in rows that are not much longer.
std::int64_t ahead_bytes(const NormalOp& op, std::int64_t distance, std::int64_t row_stride) {
  constexpr std::int64_t kAheadInRow = 2048;
  if (op.tile_cols < op.cols.extent) return op.cols.extent < 16 * op.tile_cols ? kAheadInRow : op.tile_cols;
  return std::max(distance / op.cols.extent, std::min(kRowsSideBySide, op.tile_rows)) * row_stride;
}

// Large copies come from memory, not from a cache. Asking for lines early helps even contiguous ones, and most of all
// rows of less than a page, which confuse the processor's own prefetchers. Distances are in bytes moved and were about
// the best of 0 to 64 KiB.
void set_prefetch(NormalOp* op) {
  constexpr std::int64_t kLargeBytes = 256 * 1024;
  constexpr std::int64_t kSrcAheadBytes = 32 * 1024;
  constexpr std::int64_t kDstAheadBytes = 16 * 1024;
  std::int64_t num_bytes = op->cols.extent * op->rows.extent * op->dst_element_bytes;
  for (int d = 2; d < op->num_grid_dims; ++d) num_bytes *= op->grid[d].count;
  if (num_bytes < kLargeBytes) return;
  if (op->kind == NormalOp::Kind::kRows) {
    op->src_ahead_bytes = ahead_bytes(*op, kSrcAheadBytes, op->rows.src_stride);
    op->dst_ahead_bytes = ahead_bytes(*op, kDstAheadBytes, op->rows.dst_stride);
  }
  op->prefetches_next = is_transpose(*op);
}

}  // namespace

NormalOp normalize(const CanonicalOp& op, const RowKernels& kernels) {
  NormalOp normal;
  DimList list(op);
  if (op.src == nullptr || op.src_dtype == op.dst_dtype) {
    normalize_copy(&list, op, kernels, &normal);
  } else {
    normalize_convert(&list, op, kernels, &normal);
  }
  make_grid(list, &normal);
  set_prefetch(&normal);
  return normal;
}

}  // namespace reshard
